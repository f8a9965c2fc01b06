"""Bundle + Report -> Version: a number in the registry, made once whoever asks, with its model card."""

import logging
import time
from pathlib import Path

from infra.ledger import Ledger
from infra.registry import Point
from infra.settings import settings
from tasks import stages
from tasks.model.curves import registry
from tasks.recipe import OPERATED, Recipe
from tasks.records import Bundle, Checked, Checkpoint, Report, Version
from tasks.release import card
from tasks.verb import verb

log = logging.getLogger("vernal.register")


@verb
def register(
    recipe: Recipe, checked: Checked, trained: Checkpoint, bundle: Bundle, report: Report, run_key: str
) -> Version:
    """The version of this bundle under the recipe's name."""
    key = stages.register(recipe.name, bundle, report)
    return stages.once(key, lambda folder: enter(folder, key.digest, recipe, checked, trained, bundle, report, run_key))


def enter(
    folder: Path,
    key: str,
    recipe: Recipe,
    checked: Checked,
    trained: Checkpoint,
    bundle: Bundle,
    report: Report,
    run_key: str,
) -> Version:
    """Enters the bundle into the registry under the model's lease; again, it finds the same number."""
    there = registry()
    laid_out = stages.checkout(bundle.files, folder / "bundle")
    tags = {"vernal.bundle": bundle.digest, "vernal.report": report.digest, "vernal.recipe": recipe.digest}
    headline = f"{report.metric} {report.scores[report.metric]:.4f} on {report.rows} test rows"
    with Ledger(settings().ledger_url).lease(f"model:{recipe.name}"):
        run = there.start(recipe.name, run_key, f"{recipe.name} {run_key[7:15]}", tags)
        there.params(run, flat(recipe))
        source = recipe.data.model_dump(mode="json", include={"source"})
        there.dataset(run, recipe.name, checked.parents[0], {**source, "rows": checked.rows, "checked": checked.digest})
        number = there.register(recipe.name, key, run, laid_out, recipe.problem.inputs, tags, headline)
        there.point(recipe.name, "challenger", number)
    kept = folder / "version"
    kept.mkdir()
    (kept / "card.md").write_text(card.write(recipe, number, checked, trained, bundle, report))
    (kept / "recipe.json").write_text(recipe.model_dump_json(indent=1, exclude=set(OPERATED)))
    there.artifact(run, kept / "card.md", "report")
    for name in [name for name in report.files if name.endswith((".html", ".png"))]:
        there.artifact(run, stages.checkout({name: report.files[name]}, folder / "page") / name, "report")
    there.log(run, scores_of(report, trained))
    there.end(run, "FINISHED")
    log.info("%s version %d, %s", recipe.name, number, headline)
    return Version.of(
        stages.keep(kept),
        parents=(bundle.digest, report.digest),
        name=recipe.name,
        number=number,
        bundle=bundle.digest,
        report=report.digest,
    )


def scores_of(report: Report, trained: Checkpoint) -> list[Point]:
    """The exam's metrics as points at the last step."""
    now = int(time.time() * 1000)
    return [Point(f"test_{name}", value, trained.steps, now) for name, value in report.scores.items()]


def flat(recipe: Recipe) -> dict[str, str]:
    """Every dial of the recipe's content as `section.key`."""
    dials: dict[str, str] = {}
    for section, value in recipe.content.items():
        inner = value if isinstance(value, dict) else {"": value}
        dials |= {f"{section}.{key}".rstrip("."): str(each) for key, each in inner.items()}
    return dials
