"""The local PostgreSQL: started once, and refused in one line where it cannot start."""

import os
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from infra.errors import Coded, Denied
from infra.local import postgres as module
from infra.local.postgres import LocalPostgres

pytestmark = pytest.mark.services


def test_a_second_start_joins_the_running_server(postgres: LocalPostgres) -> None:
    assert LocalPostgres(postgres.home).start().url == postgres.url


def test_a_database_asked_for_twice_is_made_once_and_apart_from_the_others(postgres: LocalPostgres) -> None:
    url = postgres.database("mlflow")
    assert postgres.database("mlflow") == url != postgres.url
    with create_engine(url.replace("postgresql:", "postgresql+psycopg2:")).connect() as connection:
        assert connection.scalar(text("SELECT current_database()")) == "mlflow"


def test_its_password_is_readable_by_its_owner_alone_from_the_first_moment(
    postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "chmod", lambda *_: None)  # it has the mode that it was made with
    with tempfile.TemporaryDirectory(prefix="vernal-postgres-") as home, LocalPostgres(Path(home)) as server:
        assert (server.home / "password").stat().st_mode & 0o777 == 0o600
    assert (postgres.home / "password").stat().st_mode & 0o777 == 0o600


def test_without_the_package_it_names_the_package_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PACKAGES", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Coded, match="apt-get install postgresql") as caught:
        LocalPostgres(tmp_path / "home").start()
    assert caught.value.code == "E-POSTGRES-MISSING"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands the folder to another user")
def test_a_folder_that_its_user_cannot_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(Denied) as caught:
        LocalPostgres(tmp_path / "home").start()
    assert caught.value.code == "E-POSTGRES-HOME"
