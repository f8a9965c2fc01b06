"""What MLflow and the store show, mended after the ledger: what is dead is ended, what points astray is set again.

Everything here looks before it touches, and may be called at any time: what is alive is left alone, and what is right
stays as it is, so that a second call finds nothing to do.
"""

from collections.abc import Iterator
from typing import NamedTuple

from infra.ledger import Decision, Ledger
from infra.settings import settings
from tasks import stages
from tasks.model.curves import registry
from tasks.release import aliases

DAY = 86_400.0  # seconds after which what is half made belongs to nobody


class Mended(NamedTuple):
    """One thing that was not as it should be, and what was done."""

    what: str
    which: str
    done: str


def runs() -> Iterator[Mended]:
    """Ends the runs that MLflow takes for unfinished and that nobody works on any more."""
    there = registry()
    open_ones = there.running()
    alive = Ledger(settings().ledger_url).alive(f"run:{run.key}" for run in open_ones)
    for run in open_ones:
        if f"run:{run.key}" not in alive and there.kill(run.id):
            yield Mended("MLflow run", f"{run.name} ({run.id[:8]})", "nobody works on it: ended as killed")


def pointers(model: str) -> Iterator[Mended]:
    """Sets the registry's aliases and its mark of what is deployable as the ledger says."""
    ledger = Ledger(settings().ledger_url)
    if astray := aliases.astray(ledger, model):
        with ledger.lease(f"model:{model}"):
            aliases.project(ledger, model)
        for alias, number in astray.items():
            yield Mended("alias", f"{model}@{alias}", f"points to version {number}" if number else "taken away")
    live, marks = ledger.live(model), {each.decision for each in ledger.rollouts(model)}
    if live and live.id in marks:
        mark = f"decision {live.id}"
        if registry().tags(model, live.version).get("vernal.deployable") != mark:
            registry().tag(model, live.version, "vernal.deployable", mark)
            yield Mended("mark", f"{model} version {live.version}", "deployable")


def unrolled(model: str) -> Decision | None:
    """The live decision about a model, if its version was not marked as deployable."""
    ledger = Ledger(settings().ledger_url)
    live = ledger.live(model)
    return live if live and live.id not in {each.decision for each in ledger.rollouts(model)} else None


def leftovers() -> Iterator[Mended]:
    """Removes what killed writers left in the store more than a day ago."""
    for name in stages.artifacts().bucket.sweep(DAY):
        yield Mended("half-made object", name, "removed")
