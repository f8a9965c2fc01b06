"""What Prefect's pages show of a run: tables of data and training, the verdict with a picture of the exam."""

import base64

from prefect.artifacts import create_image_artifact, create_markdown_artifact, create_table_artifact

from tasks import stages
from tasks.recipe import Recipe
from tasks.records import Checked, Checkpoint, Report, Shards, Snapshot, Verdict, Version


def data(recipe: Recipe, snapshot: Snapshot, checked: Checked, shards: Shards) -> None:
    """Rows and tokens of each split."""
    table = [
        {
            "split": split,
            "rows": checked.rows[split],
            "tokens": shards.tokens[split],
            "cut off": f"{shards.truncated[split]:.1%}",
        }
        for split in ("train", "validation", "test")
    ]
    read = snapshot.rows + snapshot.quarantined
    about = f"{read} rows read, {checked.quarantined} quarantined, {len(checked.labels)} labels"
    create_table_artifact(key=_key(recipe, "data"), table=table, description=about)


def training(recipe: Recipe, trained: Checkpoint) -> None:
    """Validation metrics of the step that was kept."""
    table = [{"metric": name, "validation": round(value, 4)} for name, value in trained.scores.items()]
    about = f"{trained.architecture}, {trained.parameters:,} parameters, {trained.steps} steps"
    create_table_artifact(key=_key(recipe, "training"), table=table, description=about)


def verdict(recipe: Recipe, report: Report, version: Version, found: Verdict) -> None:
    """The decision with its reasons, and a picture of the exam."""
    outcome = "is live" if found.promoted else "was refused; the champion stays"
    lines = [f"# {found.name} version {found.version} {outcome}", *(f"- {each}" for each in found.reasons), ""]
    lines += ["| metric | test |", "|---|---:|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in report.scores.items()]
    create_markdown_artifact(key=_key(recipe, "verdict"), markdown="\n".join(lines), description=str(found.reasons[0]))
    name = next(name for name in ("confusion.png", "scatter.png", "rows.png") if name in report.files)
    picture = base64.b64encode(stages.artifacts().read(report.files[name].digest)).decode()
    create_image_artifact(
        key=_key(recipe, name.removesuffix(".png")),
        image_url=f"data:image/png;base64,{picture}",
        description=f"version {version.number}",
    )


def _key(recipe: Recipe, what: str) -> str:
    return f"{recipe.name}-{what}".replace(".", "-").replace("_", "-")
