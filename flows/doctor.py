"""Is this environment fit? Each check tells what it found, and what to do if that will not do."""

import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from packaging.version import Version

from infra.ledger import Ledger
from infra.settings import settings
from tasks import stages
from tasks.errors import BadInput, Coded, Unreachable
from tasks.model.curves import registry

LEAST = {"torch": "2.13", "transformers": "5.3", "mlflow": "3.17", "prefect": "3.8.8", "safetensors": "0.6"}
BELOW = {"fastapi": "0.151"}
FREE = 2 << 30  # bytes: a base model and three of its checkpoints


def examine() -> list[dict[str, Any]]:
    """All checks, in order: `check`, `found`, `exit_code` (0: fit)."""
    checks: list[Callable[[], str]] = [libraries, disk, device, store, ledger, tracking, orchestrator]
    return [_result(check) for check in checks]


def libraries() -> str:
    """Versions below or above which something is known to break."""
    found = {name: _version(name) for name in (*LEAST, *BELOW)}
    old = [f"{name} {found[name]} < {least}" for name, least in LEAST.items() if found[name] < Version(least)]
    new = [f"{name} {found[name]} >= {limit}" for name, limit in BELOW.items() if found[name] >= Version(limit)]
    if old or new:
        raise BadInput("E-VERSIONS", f"{', '.join(old + new)}; install from requirements.lock")
    return ", ".join(f"{name} {number}" for name, number in found.items())


def disk() -> str:
    """Room for checkpoints where work is done."""
    home = settings().home.absolute()
    there = next(each for each in (home, *home.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if free < FREE:
        message = f"{free / 1e9:.1f} GB free at {there}, wanted {FREE / 1e9:.1f}; make room or move VERNAL_HOME"
        raise BadInput("E-DISK", message)
    return f"{free / 1e9:.0f} GB free at {there}"


def device() -> str:
    """Where training would run, and in which arithmetic."""
    from tasks.model import hardware
    from tasks.recipe import Train

    where = hardware.chosen()
    return f"{where}, {hardware.precision(Train(), where)}"


def store() -> str:
    """The artifact store keeps a small object and gives it back."""
    there = stages.artifacts().within("doctor")
    stored = there.put(b"vernal doctor")
    there.read(stored.digest)
    there.delete(stored.digest)
    return there.uri


def ledger() -> str:
    """The ledger answers."""
    there = Ledger(settings().ledger_url)
    with there.lease("doctor", patience=15):
        return f"{len(there.models())} models decided about"


def tracking() -> str:
    """The registry answers."""
    registry().aliases("doctor")
    return settings().mlflow_shown


def orchestrator() -> str:
    """Prefect's server, if one is configured."""
    import httpx
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        return "no server configured: each run starts one of its own"
    try:
        httpx.get(f"{url}/health", timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        message = f"{url}: {type(error).__name__}; start it, or unset PREFECT_API_URL"
        raise Unreachable("E-PREFECT-DOWN", message) from error
    return str(url)


def as_text(found: list[dict[str, Any]]) -> str:
    """A line for each check."""
    marks = ["FAIL" if each["exit_code"] else "fit " for each in found]
    return "\n".join(f"  {mark}  {each['check']:<12} {each['found']}" for mark, each in zip(marks, found, strict=True))


def _result(check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"check": check.__name__, "found": check(), "exit_code": 0}
    except Coded as error:
        return {"check": check.__name__, "found": str(error), "exit_code": error.exit_code}


def _version(name: str) -> Version:
    try:
        return Version(version(name))
    except PackageNotFoundError:
        return Version("0")
