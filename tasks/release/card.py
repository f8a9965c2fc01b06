"""The model card: what a version is, from what, how good, where it is weak, and how to take it back."""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks import stages
from tasks.metrics.marks import LOWER
from tasks.recipe import Recipe
from tasks.records import Bundle, Checked, Checkpoint, Report

WEAKEST = 5  # classes and slices shown


def write(recipe: Recipe, number: int, checked: Checked, trained: Checkpoint, bundle: Bundle, report: Report) -> str:
    """The card in Markdown."""
    facts: dict[str, Any] = json.loads(stages.artifacts().read(report.files["report.json"].digest))
    profile: dict[str, Any] = json.loads(stages.artifacts().read(checked.files["profile.json"].digest))
    weak = sorted(facts["per_class"]["f1"].items(), key=lambda each: each[1])[:WEAKEST]
    best_last = facts["metric"] not in LOWER
    slices = sorted(facts["slices"].items(), key=lambda each: each[1][facts["metric"]], reverse=not best_last)[:WEAKEST]
    there = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # Markdown, not HTML
    )
    return there.get_template("card.md").render(
        recipe=recipe,
        number=number,
        checked=checked,
        trained=trained,
        bundle=bundle,
        report=report,
        facts=facts,
        profile=profile,
        weak=weak,
        slices=slices,
    )
