"""What a run came to, for people and for programs."""

import json
from pathlib import Path
from typing import Any

from flows import page
from flows.plan import VERBS, Plan
from infra.ledger import Ledger
from infra.settings import settings
from tasks import stages
from tasks.recipe import Recipe
from tasks.records import Report, Verdict, Version


def of(recipe: Recipe, plan: Plan, verdict: Verdict) -> dict[str, Any]:
    """Everything that `vernal run --json` prints of a finished run."""
    report, version = (plan.records[verb] for verb in ("evaluate", "register"))
    assert isinstance(report, Report)
    assert isinstance(version, Version)
    told = verdict.model_dump(mode="json", include={"promoted", "metric", "gain", "low", "high", "reasons"})
    return {
        "run_key": plan.run_key,
        "recipe": recipe.digest,
        "stages": {verb: _stage(plan, verb) for verb in VERBS if verb in plan.records},
        "scores": report.scores,
        "rows": report.rows,
        "version": version.number,
        "verdict": {**told, "pending": verdict.pending},
        "champion": Ledger(settings().ledger_url).champion(recipe.name),
        "report": str(laid_out(recipe, plan, verdict)),
    }


def laid_out(recipe: Recipe, plan: Plan, verdict: Verdict) -> Path:
    """The page of the run as a file that can be opened."""
    folder = settings().home.absolute() / "reports" / recipe.name / str(verdict.version)
    return page.laid_out(page.kept(plan) or page.keep(plan, page.write(recipe, plan, verdict, {})), folder)


def _stage(plan: Plan, verb: str) -> dict[str, Any]:
    made = stages.made(plan.keys[verb])
    return {"digest": plan.records[verb].digest, "reused": made["reused"], "seconds": made["seconds"]}


def as_json(outcome: dict[str, Any]) -> str:
    return json.dumps(outcome, indent=1, ensure_ascii=False)


def as_text(recipe: Recipe, outcome: dict[str, Any]) -> str:
    """A short summary with where to look."""
    lines = [""]
    for verb, stage in outcome["stages"].items():
        took = "reused" if stage["reused"] else f"{stage['seconds']:8.1f} s"
        lines.append(f"  {verb:<10} {took:>10}   {stage['digest'][7:19]}")
    verdict = outcome["verdict"]
    scores = "  ".join(f"{name} {outcome['scores'][name]:.4f}" for name in recipe.problem.metrics[:2])
    decision = "is live" if verdict["promoted"] else f"was refused; version {outcome['champion']} stays live"
    if verdict["pending"]:
        decision = "passed the gate and is not live yet"
    elif verdict["promoted"] and outcome["champion"] != outcome["version"]:
        decision = f"was promoted then; version {outcome['champion']} is live now"
    lines += [
        "",
        f"  {recipe.name} version {outcome['version']} {decision}: {'; '.join(verdict['reasons'])}",
        f"  test ({outcome['rows']:,} rows)  {scores}",
        f"  report   {outcome['report']}",
        f"  registry {settings().mlflow_shown} · `vernal explain {recipe.name}`",
    ]
    return "\n".join(lines)
