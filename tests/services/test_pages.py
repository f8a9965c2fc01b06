"""What people see of a run: Prefect's pages, MLflow's pages and our own, read and photographed by a real browser."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.local import prefect as local
from infra.local.prefect import LocalPrefect
from tests.services.browser import look

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
SHRUNK = ["model.base.num_layers=1", "model.base.d_model=32", "gate.floors={}"]


@dataclass(frozen=True)
class Ran:
    """Two runs of one recipe on real servers: the first was promoted, the second refused."""

    first: dict[str, Any]
    second: dict[str, Any]
    prefect: str
    mlflow: str


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answered:
        return json.loads(answered.read() or b"null")


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An MLflow server of this module."""
    folder, port = tmp_path_factory.mktemp("mlflow"), free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "kept")]
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, env={**os.environ, **quiet}, stdout=log, stderr=log, start_new_session=True, cwd=folder
        )
    try:
        until = time.monotonic() + 300
        while time.monotonic() < until and server.poll() is None:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                yield f"http://127.0.0.1:{port}"
                return
            time.sleep(1)
        pytest.skip(f"no MLflow server: {(folder / 'log').read_text()[-500:]}")
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)


@pytest.fixture(scope="module")
def ran(mlflow: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.setattr(local, "PATIENCE", 600.0)  # a new database, on a machine that other tests keep busy
        server = LocalPrefect()
        patch.setenv("PREFECT_UI_API_URL", server.url)  # its pages would ask port 4200
        with server as prefect:
            environment = {
                **os.environ,
                "PREFECT_API_URL": prefect.wait(),
                "VERNAL_HOME": str(folder / "home"),
                "VERNAL_MLFLOW": mlflow,
                "VERNAL_PRICE_PER_HOUR": "2.5",
            }
            runs = []
            for changes in (["train.epochs=2"], ["train.epochs=2", "train.seed=1"]):
                dials = [part for change in [*SHRUNK, *changes] for part in ("--set", change)]
                command = [sys.executable, "-m", "flows", "run", "flows/recipes/quickstart.yaml", *dials, "--json"]
                done = subprocess.run(
                    command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False, timeout=500
                )
                assert done.returncode in (0, 3), done.stderr
                runs.append(json.loads(done.stdout))
            yield Ran(*runs, prefect.url, mlflow)


@pytest.fixture
def album(request: pytest.FixtureRequest) -> Path:
    """Where photographs are kept to be looked at."""
    assert request.config.cache
    return Path(request.config.cache.mkdir("photographs"))


def interval(run: dict[str, Any]) -> str:
    verdict = run["verdict"]
    return f"{verdict['gain']:+.4f} [{verdict['low']:+.4f}, {verdict['high']:+.4f}]"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1280])
def test_our_page_tells_champion_verdict_and_interval_without_a_complaint(
    ran: Ran, album: Path, width: int, dark: bool
) -> None:
    photograph = album / f"run-{width}-{'dark' if dark else 'light'}.png"
    seen = look(f"file://{ran.second['report']}", photograph, width=width, height=3200, dark=dark)
    assert seen.complaints == ()
    assert photograph.stat().st_size > 20_000
    outcome = "promoted" if ran.second["verdict"]["promoted"] else "refused"
    assert f"version {ran.second['version']} {outcome}" in seen.text
    assert "compared with version 1" in seen.text
    assert interval(ran.second) in seen.text
    assert "train.seed" in seen.text
    assert ran.second["run_key"] in seen.text
    first = look(f"file://{ran.first['report']}", album / "run-first.png", width=width)
    assert "version 1 promoted" in first.text
    assert "vernal rollback" in first.text


def test_prefects_pages_show_the_run_its_verdict_and_its_pictures(ran: Ran, album: Path) -> None:
    runs = answer(f"{ran.prefect}/flow_runs/filter", {"sort": "START_TIME_DESC"})
    states = {run["state_name"] for run in runs}
    assert "Promoted" in states
    pages = ran.prefect.removesuffix("/api")
    seen = look(f"{pages}/runs/flow-run/{runs[0]['id']}", album / "prefect-run.png", height=1200)
    assert runs[0]["name"] in seen.text
    assert runs[0]["state_name"] in seen.text
    of_run = {"artifacts": {"flow_run_id": {"any_": [runs[0]["id"]]}, "key": {"any_": ["quickstart-verdict"]}}}
    artifact = answer(f"{ran.prefect}/artifacts/filter", of_run)[0]["id"]
    seen = look(f"{pages}/artifacts/artifact/{artifact}", album / "prefect-artifact.png", height=1200)
    assert f"version {ran.second['version']}" in seen.text
    assert f"{ran.second['verdict']['gain']:+.4f}" in seen.text
    task_runs = answer(f"{ran.prefect}/task_runs/filter", {"flow_runs": {"id": {"any_": [runs[0]["id"]]}}})
    assert {run["name"].split("-")[0]: run["state_name"] for run in task_runs}["ingest"] == "Reused"


def test_mlflows_pages_show_the_version_with_its_card_and_the_run_with_its_data(ran: Ran, album: Path) -> None:
    number = ran.second["version"]
    seen = look(f"{ran.mlflow}/#/models/quickstart/versions/1", album / "mlflow-version.png", height=1800)
    assert "champion" in seen.text
    assert "promoted" in seen.text
    assert "What it does" in seen.text
    found = answer(f"{ran.mlflow}/api/2.0/mlflow/model-versions/get?name=quickstart&version={number}")["model_version"]
    run = answer(f"{ran.mlflow}/api/2.0/mlflow/runs/get?run_id={found['run_id']}")["run"]
    data = run["inputs"]["dataset_inputs"][0]["dataset"]
    assert ran.second["stages"]["ingest"]["digest"][7:].startswith(data["digest"])
    where = f"{ran.mlflow}/#/experiments/{run['info']['experiment_id']}/runs/{found['run_id']}"
    seen = look(where, album / "mlflow-run.png", height=1400)
    assert "quickstart" in seen.text
