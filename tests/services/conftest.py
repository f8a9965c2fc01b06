"""Real servers, started once per session; a test that needs one that cannot start is skipped with the reason."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import Coded
from infra.local.postgres import LocalPostgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL server of this session; in a folder that its own user may enter, as pytest's is not."""
    with tempfile.TemporaryDirectory(prefix="vernal-postgres-") as home:
        server = LocalPostgres(Path(home))
        try:
            server.start()
        except Coded as error:
            pytest.skip(str(error))
        yield server
        server.stop()


@pytest.fixture(scope="session")
def postgres_url(postgres: LocalPostgres) -> str:
    """URL of an empty database on it."""
    return postgres.url
