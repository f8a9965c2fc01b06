"""One page a run: what changed, why it is live or not, what it cost, how to undo it, and the exam itself.

The page needs nothing but itself. It is kept in the store under the key of the run, and shown by MLflow beside the
version and by Prefect beside the run. It can be written again from ledger and store: losing it loses nothing.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows import explain, plan
from flows.plan import VERBS, Plan
from infra.settings import settings
from tasks import stages
from tasks.errors import Coded, Missing
from tasks.model import bases
from tasks.model import page as exam
from tasks.model.curves import registry
from tasks.patience import patiently
from tasks.recipe import Recipe
from tasks.records import Checked, File, Report, Verdict, Version

HERE = Path(__file__).parent

log = logging.getLogger("vernal.page")


def publish(recipe: Recipe, run: Plan, verdict: Verdict, links: Mapping[str, str]) -> dict[str, str]:
    """Keeps the page of a finished run in the store and shows it in the registry; returns all places to look at.

    The verdict stands: no service that is away now ends the run. `vernal run` writes a page that is not in the store.
    """
    places = {**links, **_in_registry(verdict)}
    try:
        run = patiently(lambda: plan.follow(run, recipe))
        file = patiently(lambda: keep(run, write(recipe, run, verdict, places)))
        there = registry()
        with stages.workplace("page") as folder:
            there.artifact(there.run_of(verdict.name, verdict.version), laid_out(file, folder), "report")
        there.tag(verdict.name, verdict.version, "vernal.page", file.digest)
        there.describe(verdict.name, verdict.version, description(run, verdict, places))
    except Coded as error:
        log.warning("the page of this run is not everywhere it should be: %s", error)
    return places


def keep(run: Plan, text: str) -> File:
    """The page in the store, under the key of the run."""
    file = stages.put(text.encode())
    stages.artifacts().write_manifest(_name(run), {"page": file.model_dump(mode="json")})
    return file


def kept(run: Plan) -> File | None:
    """The page of a run, if the store has it."""
    found = stages.artifacts().read_manifest(_name(run))
    return File.model_validate(found["page"]) if found else None


def laid_out(file: File, folder: Path) -> Path:
    """The page as a file that can be opened."""
    return stages.checkout({"run.html": file}, folder) / "run.html"


def write(recipe: Recipe, run: Plan, verdict: Verdict, links: Mapping[str, str]) -> str:
    """The page of a run whose version is registered."""
    report, version = run.records["evaluate"], run.records["register"]
    assert isinstance(report, Report)
    assert isinstance(version, Version)
    before = _before(verdict)
    facts = json.loads(stages.artifacts().read(report.files["report.json"].digest))
    pictures = {name: file for name, file in report.files.items() if name.endswith(".png")}
    return exam.rendered(
        "run.html",
        HERE,
        exam.HERE,
        recipe=recipe,
        verdict=verdict,
        outcome=outcome(verdict),
        interval=interval(verdict, recipe.gate.margin),
        before=before,
        changed=explain.changed(before, version) if before else {"digests": {}, "inputs": [], "dials": {}},
        rows=rows(before, run),
        cost=cost(run),
        undo=undo(verdict),
        lineage={verb: record.digest for verb, record in run.records.items()},
        run_key=run.run_key,
        inputs=explain.inputs(run.records["ingest"]),
        computed=explain.computed(run.records["finetune"]),
        links=links,
        **exam.shown(facts, {Path(name).stem: stages.artifacts().read(each.digest) for name, each in pictures.items()}),
    )


def outcome(verdict: Verdict) -> str:
    """What became of the version, in two words."""
    if verdict.pending:
        return "waits for approval"
    return "promoted" if verdict.promoted else "refused"


def undo(verdict: Verdict) -> list[tuple[str, str]]:
    """What can be done about the outcome: (what, command)."""
    name, number = verdict.name, verdict.version
    if verdict.pending:
        choices = [("make it live", f"vernal approve {name} {number}"), ("refuse it", f"vernal refuse {name} {number}")]
    elif verdict.promoted:
        back = ("give its place back to the version before", f"vernal rollback {name}")
        choices = [] if verdict.champion is None else [back]
    else:
        choices = [("let it through the gate again, against whoever is live then", f"vernal promote {name} {number}")]
    return [*choices, ("see the decisions and what it was made from", f"vernal explain {name}@{number}")]


def interval(verdict: Verdict, margin: float) -> dict[str, float] | None:
    """Where gain, its ends, zero and the margin stand on a line from 0 to 100; None: there was no champion."""
    if verdict.gain is None or verdict.low is None or verdict.high is None:
        return None
    marks = {"low": verdict.low, "gain": verdict.gain, "high": verdict.high, "zero": 0.0, "margin": -margin}
    widest = max(1e-9, *(abs(each) for each in marks.values()))
    return {name: round(50 + 44 * value / widest, 3) for name, value in marks.items()}


def cost(run: Plan) -> list[dict[str, Any]]:
    """What each stage took when it was made, whether that was in this run, and its price where an hour has one."""
    price, table = settings().price_per_hour, []
    for verb in VERBS:
        if verb in run.records:
            made = stages.made(run.keys[verb])
            seconds = float(made["seconds"])
            table.append(
                {
                    "verb": verb,
                    "reused": made["reused"],
                    "seconds": seconds,
                    "cpu": made.get("cpu_seconds"),
                    "price": None if price is None else seconds / 3600 * price,
                }
            )
    return table


def rows(before: Version | None, run: Plan) -> list[tuple[str, int | None, int]]:
    """Rows of each split, before and now."""
    now = run.records["validate"]
    assert isinstance(now, Checked)
    then = explain.lineage(before)["validate"] if before else None
    old = then.rows if isinstance(then, Checked) else {}
    return [(split, old.get(split), now.rows[split]) for split in ("train", "validation", "test")]


def description(run: Plan, verdict: Verdict, links: Mapping[str, str]) -> str:
    """What the registry's page says of the version, in Markdown: the verdict, where to look, and its card."""
    version = run.records["register"]
    card = stages.artifacts().read(version.files["card.md"].digest).decode()
    lines = [f"**{outcome(verdict)}**: {'; '.join(verdict.reasons)}", ""]
    lines += [f"[{what}]({link})" for what, link in links.items() if what != "MLflow version"]
    lines += ["", *(f"- {what}: `{command}`" for what, command in undo(verdict)), "", card]
    return "\n".join(lines)


def _in_registry(verdict: Verdict) -> dict[str, str]:
    try:
        return {f"MLflow {what}": link for what, link in registry().links(verdict.name, verdict.version).items()}
    except Coded:
        return {}


def _before(verdict: Verdict) -> Version | None:
    """The champion that the version was compared with, if the store has all that it was made from."""
    try:
        found = bases.registered(verdict.name, verdict.champion)
        return found if found and explain.lineage(found) else None
    except Missing:
        return None


def _name(run: Plan) -> str:
    return f"page/{run.run_key.removeprefix('sha256:')}"
