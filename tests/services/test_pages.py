"""What people see of a run: Prefect's pages, MLflow's pages and our own, read and photographed by a real browser."""

import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.services.browser import Seen, look
from tests.services.scheduled import Scheduled

pytestmark = pytest.mark.services


@pytest.fixture
def album(request: pytest.FixtureRequest) -> Path:
    """Where photographs are kept to be looked at."""
    assert request.config.cache
    return Path(request.config.cache.mkdir("photographs"))


def in_prefect(ran: Scheduled, page: str, photograph: Path, *words: str) -> Seen:
    """A page of Prefect's, by somebody who has logged in: its pages keep the password so."""
    values = ran.stack.environment
    login = base64.b64encode(values["PREFECT_API_AUTH_STRING"].encode()).decode()
    url = values["PREFECT_API_URL"].removesuffix("/api") + page
    return look(url, photograph, *words, height=1400, kept={"prefect-password": login})


def in_mlflow(ran: Scheduled, question: str, **given: str) -> Any:
    answer = httpx.get(f"{ran.stack.environment['VERNAL_MLFLOW']}/api/2.0/mlflow/{question}", params=given, timeout=60)
    return answer.raise_for_status().json()


def interval(run: dict[str, Any]) -> str:
    verdict = run["verdict"]
    return f"{verdict['gain']:+.4f} [{verdict['low']:+.4f}, {verdict['high']:+.4f}]"


@pytest.mark.parametrize(("width", "dark"), [(390, True), (1280, False)])
def test_our_page_tells_champion_verdict_and_interval_without_a_complaint(
    ran: Scheduled, album: Path, width: int, dark: bool
) -> None:
    photograph = album / f"run-{width}-{'dark' if dark else 'light'}.png"
    words = ["version 2 refused", "compared with version 1", interval(ran.second), "train.seed"]
    words += [ran.second["run_key"], "vernal promote quickstart 2"]
    seen = look(f"file://{ran.second['report']}", photograph, *words, width=width, height=3200, dark=dark)
    assert [word for word in words if word not in seen.text] == []
    assert seen.complaints == ()
    assert photograph.stat().st_size > 20_000


def test_our_page_of_the_first_version_says_that_there_was_none_before(ran: Scheduled, album: Path) -> None:
    words = ["version 1 promoted", "there is no champion yet", "vernal explain quickstart@1"]
    seen = look(f"file://{ran.first['report']}", album / "run-first.png", *words)
    assert [word for word in words if word not in seen.text] == []
    assert "rollback" not in seen.text
    assert seen.complaints == ()


def test_prefects_pages_show_the_run_and_its_verdict(ran: Scheduled, album: Path) -> None:
    words = [ran.run["name"], "Promoted", "auto-scheduled", "finetune"]
    seen = in_prefect(ran, f"/runs/flow-run/{ran.run['id']}", album / "prefect-run.png", *words)
    assert [word for word in words if word not in seen.text] == []
    done = {"flows": {"name": {"any_": ["retrain"]}}, "flow_runs": {"state": {"type": {"any_": ["COMPLETED"]}}}}
    runs = ran.prefect.ask("POST", "flow_runs/filter", **done, sort="END_TIME_DESC")
    assert runs[0]["state_name"] == "Refused by the gate"
    tasks = ran.prefect.ask("POST", "task_runs/filter", flow_runs={"id": {"any_": [runs[0]["id"]]}})
    states = {task["name"].rpartition("-")[0]: task["state_name"] for task in tasks}
    assert (states["ingest"], states["tokenise"], states["finetune"]) == ("Reused", "Reused", "Completed")
    of_version = {"key": {"any_": ["quickstart-verdict"]}}
    artifacts = ran.prefect.ask("POST", "artifacts/filter", artifacts=of_version, sort="CREATED_DESC")
    words = ["version 2: refused", f"{ran.second['verdict']['gain']:+.4f}", "vernal promote quickstart 2"]
    page = f"/artifacts/artifact/{artifacts[0]['id']}"
    seen = in_prefect(ran, page, album / "prefect-artifact.png", *words)
    assert [word for word in words if word not in seen.text] == []


def test_mlflows_pages_show_the_champion_with_its_card_and_the_run_with_its_data(ran: Scheduled, album: Path) -> None:
    pages = ran.stack.environment["VERNAL_MLFLOW"]
    words = ["quickstart", "champion"]
    seen = look(f"{pages}/#/models/quickstart", album / "mlflow-model.png", *words)
    assert [word for word in words if word not in seen.text] == []
    words = ["champion", "promoted", "What it does", "vernal.deployable"]
    seen = look(f"{pages}/#/models/quickstart/versions/1", album / "mlflow-version.png", *words, height=2400)
    assert [word for word in words if word not in seen.text] == []
    version = in_mlflow(ran, "model-versions/get", name="quickstart", version="2")["model_version"]
    run = in_mlflow(ran, "runs/get", run_id=version["run_id"])["run"]
    (data,) = run["inputs"]["dataset_inputs"]
    assert ran.second["stages"]["ingest"]["digest"][7:].startswith(data["dataset"]["digest"])
    words = ["quickstart", "macro_f1"]
    page = f"{pages}/#/experiments/{run['info']['experiment_id']}/runs/{version['run_id']}"
    seen = look(page, album / "mlflow-run.png", *words, height=1400)
    assert [word for word in words if word not in seen.text] == []
