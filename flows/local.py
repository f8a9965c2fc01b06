"""The local stack as people see it: a line for each part as it comes and goes, and a table at the end."""

import sys
from typing import Any

from infra.local.stack import Stack
from infra.settings import overruled

NOT_MADE = "no stack was ever made here; `vernal up` makes one"


def progress(line: str) -> None:
    """One step, on the way to the table."""
    print(f"  {line}", file=sys.stderr, flush=True)


def as_json(stack: Stack) -> dict[str, Any]:
    """The parts, and where the rest is to be read."""
    state = stack.told["state"] if stack.watched else "down"
    return {"home": str(stack.home), "state": state, "environment": str(stack.file), "parts": stack.status()}


def as_text(stack: Stack) -> str:
    """A table of the parts."""
    parts = stack.status()
    if not parts:
        return NOT_MADE
    head = f"  {'part':<9} {'state':<11} {'pid':>8} {'memory':>9} {'started in':>11} {'up':>9} {'restarts':>9}  address"
    return "\n".join([head, *map(_row, parts)])


def where_to_look(stack: Stack) -> str:
    """What one does with a stack that has just come up."""
    at = {part["name"]: part["address"] for part in stack.told["parts"]}
    lines = [
        f"  Prefect  {at['prefect']}  (password: PREFECT_API_AUTH_STRING in {stack.file})",
        f"  MLflow   {at['mlflow']}",
        f"  logs     {stack.home / 'log'}",
        "  every vernal command uses the stack until `vernal down`",
    ]
    if names := overruled(stack.environment):
        lines.append(f"  but your environment overrules it: {', '.join(names)}")
    return "\n".join(lines)


def _row(part: dict[str, Any]) -> str:
    pid = part["pids"][0] if part["pids"] else "-"
    memory, took = f"{part['memory'] / 2**20:.0f} MiB", f"{part['seconds']:.1f} s"
    return (
        f"  {part['name']:<9} {part['state']:<11} {pid:>8} {memory:>9} {took:>11} {_long(part['uptime']):>9} "
        f"{part['restarts']:>9}  {part['address']}"
    )


def _long(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
