"""Real servers, started once per session; a test that needs one that cannot start is skipped with the reason."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.errors import Coded
from infra.local.postgres import LocalPostgres
from infra.local.s3 import LocalS3


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


@pytest.fixture(scope="session")
def s3_server(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    """An S3 server of this session; its software is installed once, below pytest's cache, its data are new."""
    assert pytestconfig.cache
    server = LocalS3(tmp_path_factory.mktemp("s3"), environment=pytestconfig.cache.mkdir("swift") / "environment")
    try:
        server.start()
    except Coded as error:
        pytest.skip(str(error))
    yield server
    server.stop()
