"""Version -> Verdict: champion and challenger sit the same exam now, and the better one is live afterwards.

The decision is written to the ledger under the model's lease; the registry's aliases follow it and can be set again
from it at any time. So a kill between the two leaves nothing undecided: who runs it again finds the decision and sets
the aliases.

Where the recipe asks for a person's approval, what passed the gate is written down as a request and nobody waits: the
run ends, `tasks.release.approval` decides later, and who runs it again finds that decision.
"""

import json
import logging
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from infra.ledger import Kind, Ledger, Request
from infra.settings import settings
from tasks import recipe, stages
from tasks.errors import BadInput
from tasks.model import bases, hardware
from tasks.model.ancestry import ancestors, unseen
from tasks.model.bundle import Model
from tasks.model.curves import registry
from tasks.model.exam import Exam
from tasks.records import Bundle, Checked, Report, Verdict, Version
from tasks.release import gate
from tasks.release.aliases import project
from tasks.verb import verb

log = logging.getLogger("vernal.promote")


class Waiting(Exception):
    """It passed the gate, and a person has to say the last word: there is no verdict to keep yet."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict)
        self.verdict = verdict


@verb
def promote(version: Version, checked: Checked, task: recipe.Task, metric: recipe.Metric, how: recipe.Gate) -> Verdict:
    """Makes `version` the champion if the gate lets it through; says why, either way."""
    key = stages.promote(version, checked, metric, how)
    try:
        return stages.once(key, lambda folder: decide(folder, key.digest, version, checked, task, metric, how))
    except Waiting as waiting:
        return waiting.verdict


def decide(
    folder: Path,
    key: str,
    version: Version,
    checked: Checked,
    task: recipe.Task,
    metric: recipe.Metric,
    how: recipe.Gate,
) -> Verdict:
    """The verdict under the model's lease: found in the ledger, or judged now and written there.

    Raises:
        Waiting: it passed, and the recipe wants a person's approval.
    """
    ledger = Ledger(settings().ledger_url)
    with ledger.lease(f"model:{version.name}") as lease:
        known = next((each for each in ledger.decisions(version.name) if each.key == key), None)
        asked = next((each for each in ledger.asked(version.name) if each.key == key), None)
        if known:
            body = known.body
        elif asked:
            body = refused(asked, late(asked)) if overdue(asked) else asked.body["verdict"]
        else:
            body = judged(folder, ledger, version, checked, task, metric, how)
        if not known and how.approval and body["promoted"] and ledger.champion(version.name) != version.number:
            until = datetime.now(UTC) + timedelta(hours=how.approval)
            question = {"verdict": body, "until": until.isoformat(timespec="seconds")}
            asked = ledger.ask(lease, model=version.name, version=version.number, key=key, body=question)
            raise Waiting(pending(version, checked, asked))
        kind: Kind = "promoted" if body["promoted"] else "refused"
        ledger.decide(lease, model=version.name, version=version.number, kind=kind, key=key, body=body)
        project(ledger, version.name)
        label(version, body)
    kept = folder / "verdict"
    kept.mkdir()
    (kept / "verdict.json").write_text(json.dumps(body, indent=1, sort_keys=True))
    log.info("%s version %d %s: %s", version.name, version.number, kind, "; ".join(body["reasons"]))
    fields = {name: value for name, value in body.items() if name in Verdict.model_fields}
    return Verdict.of(stages.keep(kept), parents=(version.digest, checked.digest), **fields)


def pending(version: Version, checked: Checked, asked: Request) -> Verdict:
    """What is known before a person has spoken."""
    question = asked.body["verdict"]
    word = f"it waits for `vernal approve {asked.model} {asked.version}` until {asked.body['until']}"
    label(version, question, "pending")
    log.info("%s version %d passed the gate; %s", asked.model, asked.version, word)
    fields = {**question, "promoted": False, "pending": True, "reasons": [*question["reasons"], word]}
    return Verdict.of({}, parents=(version.digest, checked.digest), **fields)


def overdue(asked: Request) -> bool:
    """Whether the time for an answer is over."""
    return datetime.now(UTC) >= datetime.fromisoformat(asked.body["until"])


def late(asked: Request) -> str:
    """Why a request that nobody answered is refused."""
    return f"nobody approved it until {asked.body['until']}"


def refused(asked: Request, reason: str) -> dict[str, Any]:
    """The verdict that a request comes to, if it is not approved."""
    question = asked.body["verdict"]
    return {**question, "promoted": False, "reasons": [*question["reasons"], reason]}


def judged(
    folder: Path,
    ledger: Ledger,
    version: Version,
    checked: Checked,
    task: recipe.Task,
    metric: recipe.Metric,
    how: recipe.Gate,
) -> dict[str, Any]:
    """Both models sit the exam now, of rows that neither of them has learned; the fields of the Verdict."""
    challenger = stages.by_digest("package", Bundle, version.bundle)
    former = ledger.champion(version.name)
    champion = bases.registered(version.name, former) if former != version.number else None
    live = stages.by_digest("package", Bundle, champion.bundle) if champion else None
    verdict: dict[str, Any] = {
        "name": version.name,
        "version": version.number,
        "promoted": False,
        "metric": metric,
        "champion": champion.number if champion else None,
        **dict.fromkeys(("gain", "low", "high")),
    }
    whole = Exam.read(task, stages.open_file(checked.files["test.parquet"]))
    try:
        new = unseen(whole, checked, [*ancestors(challenger), *((live, *ancestors(live)) if live else ())])
    except BadInput as error:
        return {**verdict, "reasons": [str(error)]}
    exam, labels = whole.at(new), challenger.labels
    theirs = exam.sat_by(opened(challenger, folder / "challenger")).marked(labels)
    ours = exam.sat_by(opened(live, folder / "champion")).marked(labels) if live else None
    found = gate.judge(ours, theirs, metric, how)
    again = ("it is the champion already", *gate.broken_floors(theirs, how))
    known = int((~new).sum())
    return verdict | {
        "promoted": found.promoted,
        "gain": found.gain,
        "low": found.low,
        "high": found.high,
        "reasons": [
            *(again if former == version.number else found.reasons),
            *([f"{known:,} test rows were left out, since one of the models has learned them"] if known else []),
        ],
    }


def opened(bundle: Bundle, folder: Path) -> Model:
    """The bundle in memory, having answered its golden inputs."""
    model = Model.load(stages.checkout(bundle.files, folder), hardware.chosen())
    model.check()
    return model


def label(version: Version, body: dict[str, Any], verdict: str = "") -> None:
    """Writes the verdict onto the version in the registry."""
    there = registry()
    verdict = verdict or ("promoted" if body["promoted"] else "refused")
    there.tag(version.name, version.number, "vernal.verdict", verdict)
    there.tag(version.name, version.number, "vernal.reason", "; ".join(body["reasons"]))


def by_hand(name: str, number: int) -> Verdict:
    """`vernal promote`: the gate of the version's own recipe, against whoever is champion now.

    Raises:
        BadInput: E-REG-MISSING, there is no such version.
    """
    version, checked, plan = examined(name, number)
    open_ones = [each.key for each in Ledger(settings().ledger_url).asked(name) if each.version == number]
    key = open_ones[-1] if open_ones else f"by-hand:{uuid.uuid4().hex}"
    with stages.workplace("promote") as folder:
        try:
            return decide(folder, key, version, checked, plan.task, plan.metric, plan.gate)
        except Waiting as waiting:
            return waiting.verdict


def examined(name: str, number: int) -> tuple[Version, Checked, recipe.Recipe]:
    """A version with the rows that it was examined on and the recipe that it was registered with.

    Raises:
        BadInput: E-REG-MISSING, there is no such version.
    """
    version = bases.registered(name, number)
    if version is None:
        raise BadInput("E-REG-MISSING", f"{name} has no version {number}; `vernal explain {name}` lists what there is")
    plan = recipe.Recipe.model_validate_json(stages.artifacts().read(version.files["recipe.json"].digest))
    _, rows = stages.by_digest("evaluate", Report, version.report).parents
    return version, stages.by_digest("validate", Checked, rows), plan
