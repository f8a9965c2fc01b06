"""What Prefect's pages show of a run: tables of data and training, the verdict with a picture of the exam.

They are shown to people, and nothing depends on them: a server that is away when its page is due ends no run.
"""

import base64
import logging
from collections.abc import Callable, Mapping
from functools import wraps
from typing import ParamSpec

import httpx
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.exceptions import PrefectException
from prefect.runtime import flow_run

from flows import page
from infra.settings import prefect_url
from tasks import stages
from tasks.errors import Coded
from tasks.recipe import Recipe
from tasks.records import Checked, Checkpoint, Report, Shards, Snapshot, Verdict

P = ParamSpec("P")

log = logging.getLogger("vernal.show")


def _if_heard(show: Callable[P, None]) -> Callable[P, None]:
    """The same, with a warning where the server or the store does not answer."""

    @wraps(show)
    def told(*given: P.args, **named: P.kwargs) -> None:
        try:
            show(*given, **named)
        except (httpx.HTTPError, PrefectException, Coded) as error:
            log.warning("the %s of this run is not on Prefect's page: %s", show.__name__, error)

    return told


@_if_heard
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


@_if_heard
def training(recipe: Recipe, trained: Checkpoint) -> None:
    """Validation metrics of the step that was kept."""
    table = [{"metric": name, "validation": round(value, 4)} for name, value in trained.scores.items()]
    about = f"{trained.architecture}, {trained.parameters:,} parameters, {trained.steps} steps"
    create_table_artifact(key=_key(recipe, "training"), table=table, description=about)


@_if_heard
def verdict(recipe: Recipe, report: Report, found: Verdict, places: Mapping[str, str]) -> None:
    """The decision with its reasons, what can be done about it and where to look; and a picture of the exam."""
    lines = [f"# {found.name} version {found.version}: {page.outcome(found)}", *(f"- {each}" for each in found.reasons)]
    lines += ["", "| metric | test |", "|---|---:|"]
    lines += [f"| {name} | {value:.4f} |" for name, value in report.scores.items()]
    lines += ["", *(f"- {what}: `{command}`" for what, command in page.undo(found))]
    lines += ["", *(f"- [{what}]({link})" for what, link in places.items())]
    create_markdown_artifact(key=_key(recipe, "verdict"), markdown="\n".join(lines), description=str(found.reasons[0]))
    if "MLflow files" in places:
        about = (
            "what changed, why it is live or not, what it cost, how to undo it: `report/run.html` of the run's files"
        )
        create_link_artifact(key=_key(recipe, "report"), link=places["MLflow files"], description=about)
    for name in ("confusion.png", "scatter.png", "rows.png", "calibration.png"):
        if name in report.files:
            picture = base64.b64encode(stages.artifacts().read(report.files[name].digest)).decode()
            create_image_artifact(
                key=_key(recipe, name.removesuffix(".png")),
                image_url=f"data:image/png;base64,{picture}",
                description=f"version {found.version}",
            )


def here() -> dict[str, str]:
    """The page of this run, where its server stays when the run has ended."""
    return {"Prefect run": str(flow_run.ui_url)} if prefect_url() and flow_run.ui_url else {}


def _key(recipe: Recipe, what: str) -> str:
    return f"{recipe.name}-{what}".replace(".", "-").replace("_", "-")
