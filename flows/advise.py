"""Which base for a recipe: each goes the first stages of a run, is probed and timed, and gets its place in a table.

A base that a run would refuse is refused by the same stage in the same words, and a run that follows reuses what was
made of data, base and tokens.

The order is by what probes can tell apart and time can: bases whose probe is at most 0.05 below the best one's (two
standard errors of 512 rows) count as equal, and the fastest of them comes first; then the same with those that are
left. Where a problem cannot be probed the fastest comes first. Refused ones come last.
"""

import logging
import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows import plan
from flows.candidates import Candidate
from infra.settings import settings
from tasks import stages
from tasks.data.ingest import ingest
from tasks.data.tokenise import tokenise
from tasks.data.validate import validate
from tasks.errors import BadInput, Missing
from tasks.model import forecast, hardware, linear_probe
from tasks.model.load import load
from tasks.model.pace import Pace, measure
from tasks.model.training import Job, lay_out
from tasks.recipe import Recipe
from tasks.records import Checked, Checkpoint, Shards

EQUAL = 0.05  # that one probe may be below another and be as good

log = logging.getLogger("vernal.advise")


@dataclass(frozen=True)
class Advice:
    """What is known of a candidate."""

    candidate: Candidate
    refused: str | None = None  # why
    length: int | None = None  # tokens of the longest row that it takes; None: no limit
    memory: forecast.Forecast | None = None
    pace: Pace | None = None
    probe: float | None = None

    @property
    def seconds(self) -> float:
        """Of the fine-tuning, by the clock; no end of them where it is refused."""
        return self.pace.seconds if self.pace else math.inf

    @property
    def cost(self) -> float | None:
        """Of the fine-tuning, where an hour has a price."""
        price = settings().price_per_hour
        return self.seconds / 3600 * price if price is not None and self.pace else None


def advise(candidates: Sequence[Candidate], beside: Path) -> list[Advice]:
    """What is known of each candidate, the best first.

    Raises:
        BadInput: E-ADVISE-LAUNCH, the recipe trains in several processes; or what is wrong with its data.
        Coded: a service does not answer.
    """
    what = candidates[0].recipe
    if what.train.launch != "here":
        message = f"train.launch {what.train.launch}: what is timed is one process; add --set train.launch=here"
        raise BadInput("E-ADVISE-LAUNCH", f"{message}, and compare")
    checked = validate.fn(ingest.fn(what.data, what.task, str(beside)), what.task, what.data, what.rules)
    return ranked([examined(each, checked, beside) for each in candidates])


def ranked(found: Sequence[Advice]) -> list[Advice]:
    """The best first: those whose probe is nearly the best one's, fastest first; then the same of the rest; refused."""
    left = sorted((each for each in found if each.pace), key=lambda each: each.seconds)
    order: list[Advice] = []
    while left:
        least = max(each.probe or 0.0 for each in left) - EQUAL
        order += [each for each in left if (each.probe or 0.0) >= least]
        left = [each for each in left if (each.probe or 0.0) < least]
    return order + [each for each in found if not each.pace]


def examined(candidate: Candidate, checked: Checked, beside: Path) -> Advice:
    """What is known of one."""
    what = candidate.recipe
    log.info("%s", candidate.name)
    try:
        base = load.fn(what.model, str(beside))
        shards = tokenise.fn(checked, base, what.task, what.tokens)
        memory = forecasted(candidate, beside)
        with stages.workplace("advise") as folder:
            job = job_of(what, base, shards, f"advice/{folder.name}")
            lay_out(folder, job)
            probe = linear_probe.score(folder, job)
            return Advice(candidate, None, base.length, memory, measure(folder, job), probe)
    except (BadInput, Missing) as error:
        return Advice(candidate, str(error))


def job_of(what: Recipe, base: Checkpoint, shards: Shards, checkpoints: str) -> Job:
    """The fine-tuning that a run would do."""
    dials = {"task": what.task, "train": what.train, "name": what.name, "run_key": what.digest}
    return Job(base=base, data=shards, checkpoints=checkpoints, **dials)


def forecasted(candidate: Candidate, beside: Path) -> forecast.Forecast | None:
    """The memory that a run takes; None: a module of the user's own.

    Raises:
        BadInput: E-MEMORY, this machine has less.
    """
    found = plan.walk(candidate.recipe, beside)
    memory = forecast.of(candidate.recipe, found.base, found.parts, found.records)
    room = hardware.room(hardware.chosen())
    if memory and memory.total > room:
        message = f"a run takes about {memory.total / 1e9:.1f} GB of memory, and there are {room / 1e9:.1f}"
        raise BadInput("E-MEMORY", f"{message}; lower train.token_budget, or set train.recompute or train.top_layers")
    return memory


def as_json(found: Sequence[Advice]) -> dict[str, Any]:
    """Everything that is known, for programs."""
    what = found[0].candidate.recipe
    bases = [
        {
            "base": each.candidate.name,
            "set": each.candidate.changes,
            "refused": each.refused,
            "length": each.length,
            "parameters": each.pace and each.pace.parameters,
            "computed": each.pace and each.pace.computed,
            "steps": each.pace and each.pace.steps,
            "probe": each.probe,
            "memory": each.memory and each.memory.total,
            "seconds": each.pace and round(each.pace.seconds, 3),
            "cpu_seconds": each.pace and round(each.pace.cpu_seconds, 3),
            "parts": each.pace and {name: round(part[0], 3) for name, part in each.pace.parts.items()},
            "cost": each.cost,
        }
        for each in found
    ]
    return {"name": what.name, "device": hardware.chosen(), "metric": what.problem.metrics[0], "bases": bases}


def as_text(found: Sequence[Advice], path: Path) -> str:
    """A table, and the command that takes the first base of it."""
    what = found[0].candidate.recipe
    probe = f"probe ({what.problem.metrics[0]})"
    heads = ["base", "parameters", "takes rows of", probe, "memory", "fine-tuning", "of processor", "cost"]
    rows = [heads, *(_row(each) for each in found if each.pace)]
    if settings().price_per_hour is None:
        rows = [row[:-1] for row in rows]
    wide = max(len(each.candidate.name) for each in found)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][1:]
    lines = [f"{what.name}: {what.task}, rows of up to {what.tokens.length} tokens, on {hardware.chosen()}", ""]
    for first, *others in rows if len(rows) > 1 else ():
        numbers = (f"{each:>{width}}" for each, width in zip(others, widths, strict=True))
        lines.append("  ".join([f"  {first:<{wide}}", *numbers]))
    lines += [f"  {each.candidate.name:<{wide}}  {each.refused}" for each in found if each.refused]
    if found[0].pace:
        dials = (f"--set {shlex.quote(change)}" for change in found[0].candidate.changes)
        lines += ["", "  " + " ".join(["vernal run", str(path), *dials])]
    return "\n".join(lines)


def _row(advice: Advice) -> list[str]:
    assert advice.pace
    return [
        advice.candidate.name,
        f"{advice.pace.parameters / 1e6:,.1f} M",
        f"{advice.length:,} tokens" if advice.length else "any length",
        "-" if advice.probe is None else f"{advice.probe:.2f}",
        f"{advice.memory.total / 1e9:.1f} GB" if advice.memory else "-",
        f"{advice.pace.seconds / 60:,.1f} min",
        f"{advice.pace.cpu_seconds / 60:,.1f} min",
        "-" if advice.cost is None else f"{advice.cost:,.2f}",
    ]
