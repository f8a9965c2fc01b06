"""Version -> Verdict: champion and challenger sit the same exam now, and the better one is live afterwards.

The decision is written to the ledger under the model's lease; the registry's aliases follow it and can be set again
from it at any time. So a kill between the two leaves nothing undecided: who runs it again finds the decision and sets
the aliases.
"""

import json
import logging
import uuid
from pathlib import Path
from typing import Any

from infra.ledger import Kind, Ledger
from infra.settings import settings
from tasks import recipe, stages
from tasks.errors import BadInput
from tasks.model import bases, hardware
from tasks.model.bundle import Model
from tasks.model.curves import registry
from tasks.model.exam import Exam
from tasks.records import Bundle, Checked, Report, Verdict, Version
from tasks.release import gate
from tasks.release.aliases import project
from tasks.verb import verb

log = logging.getLogger("vernal.promote")


@verb
def promote(version: Version, checked: Checked, task: recipe.Task, metric: recipe.Metric, how: recipe.Gate) -> Verdict:
    """Makes `version` the champion if the gate lets it through; says why, either way."""
    key = stages.promote(version, checked, metric, how)
    return stages.once(key, lambda folder: decide(folder, key.digest, version, checked, task, metric, how))


def decide(
    folder: Path,
    key: str,
    version: Version,
    checked: Checked,
    task: recipe.Task,
    metric: recipe.Metric,
    how: recipe.Gate,
) -> Verdict:
    """The verdict under the model's lease: found in the ledger, or judged now and written there."""
    ledger = Ledger(settings().ledger_url)
    with ledger.lease(f"model:{version.name}") as lease:
        known = next((each for each in ledger.decisions(version.name) if each.key == key), None)
        body = known.body if known else judged(folder, ledger, version, checked, task, metric, how)
        kind: Kind = "promoted" if body["promoted"] else "refused"
        ledger.decide(lease, model=version.name, version=version.number, kind=kind, key=key, body=body)
        project(ledger, version.name)
        label(version, body)
    kept = folder / "verdict"
    kept.mkdir()
    (kept / "verdict.json").write_text(json.dumps(body, indent=1, sort_keys=True))
    log.info("%s version %d %s: %s", version.name, version.number, kind, "; ".join(body["reasons"]))
    return Verdict.of(stages.keep(kept), parents=(version.digest, checked.digest), **body)


def judged(
    folder: Path,
    ledger: Ledger,
    version: Version,
    checked: Checked,
    task: recipe.Task,
    metric: recipe.Metric,
    how: recipe.Gate,
) -> dict[str, Any]:
    """Both models sit the exam now; the fields of the Verdict."""
    challenger = stages.by_digest("package", Bundle, version.bundle)
    former = ledger.champion(version.name)
    champion = bases.registered(version.name, former) if former != version.number else None
    exam = Exam.read(task, stages.open_file(checked.files["test.parquet"]))
    labels = challenger.labels
    theirs = exam.sat_by(opened(challenger, folder / "challenger")).marked(labels)
    ours = None
    if champion:
        bundle = stages.by_digest("package", Bundle, champion.bundle)
        ours = exam.sat_by(opened(bundle, folder / "champion")).marked(labels)
    found = gate.judge(ours, theirs, metric, how)
    again = ("it is the champion already", *gate.broken_floors(theirs, how))
    return {
        "name": version.name,
        "version": version.number,
        "promoted": found.promoted,
        "metric": metric,
        "champion": champion.number if champion else None,
        "gain": found.gain,
        "low": found.low,
        "high": found.high,
        "reasons": list(again if former == version.number else found.reasons),
    }


def opened(bundle: Bundle, folder: Path) -> Model:
    """The bundle in memory, having answered its golden inputs."""
    model = Model.load(stages.checkout(bundle.files, folder), hardware.chosen())
    model.check()
    return model


def label(version: Version, body: dict[str, Any]) -> None:
    """Writes the verdict onto the version in the registry."""
    there = registry()
    there.tag(version.name, version.number, "vernal.verdict", "promoted" if body["promoted"] else "refused")
    there.tag(version.name, version.number, "vernal.reason", "; ".join(body["reasons"]))


def by_hand(name: str, number: int) -> Verdict:
    """`vernal promote`: the gate of the version's own recipe, against whoever is champion now.

    Raises:
        BadInput: E-REG-MISSING, there is no such version.
    """
    version = bases.registered(name, number)
    if version is None:
        raise BadInput("E-REG-MISSING", f"{name} has no version {number}; `vernal explain {name}` lists what there is")
    plan = recipe.Recipe.model_validate_json(stages.artifacts().read(version.files["recipe.json"].digest))
    _, examined_on = stages.by_digest("evaluate", Report, version.report).parents
    checked = stages.by_digest("validate", Checked, examined_on)
    with stages.workplace("promote") as folder:
        return decide(folder, f"by-hand:{uuid.uuid4().hex}", version, checked, plan.task, plan.metric, plan.gate)
