"""What every test stands on: a home of its own, no settings of the person who runs it, no network."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from absl import logging as absl

from infra.settings import quiet_prefect, settings

os.environ.pop("PREFECT_API_URL", None)
quiet_prefect()
# rouge-score's: when Prefect sets logging up all handlers are closed, and this one takes pytest's stderr along
absl.get_absl_handler().python_handler.setStream(sys.__stderr__)

DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty VERNAL_HOME; no setting of ours leaks in from outside."""
    from tasks import stages

    for name in [name for name in os.environ if name.startswith("VERNAL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VERNAL_HOME", str(tmp_path / "home"))
    settings.cache_clear()
    stages.artifacts.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()
    stages.artifacts.cache_clear()


@pytest.fixture(scope="session")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database in which nothing was recorded; its 60 migrations take 2 s of processor time."""
    from infra.registry import Registry

    folder = tmp_path_factory.mktemp("migrated")
    Registry(f"sqlite:///{folder}/mlflow.db", folder).aliases("nobody")
    return folder / "mlflow.db"


@pytest.fixture
def mlflow_at_home(home: Path, migrated: Path) -> None:
    """VERNAL_HOME with that database, for who does not test the making of one (tests/infra/test_registry.py does)."""
    home.mkdir(exist_ok=True)
    shutil.copyfile(migrated, home / "mlflow.db")


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    """One ephemeral Prefect server with an empty database for all tests that run a flow, commands included.

    No heartbeats: a flow waits up to a second for their thread when it ends.
    """
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield


@pytest.fixture(scope="session")
def datasets() -> Path:
    """The folder of real public datasets; skips where it is not there."""
    found = Path(os.environ.get("VERNAL_TEST_DATA", DATA))
    if not found.is_dir():
        pytest.skip(f"real datasets are not at {found}; set VERNAL_TEST_DATA to a folder that holds them")
    return found
