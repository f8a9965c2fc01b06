"""Real servers, started once per session; a test that needs one that cannot start is skipped with the reason."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import pytest

from infra.errors import Coded
from infra.local.postgres import LocalPostgres
from infra.local.s3 import LocalS3
from infra.local.stack import Stack
from tests.services.scheduled import HUB, Scheduled, run_and_refuse

ROOT = Path(__file__).parents[2]
OURS = ("VERNAL_", "PREFECT_", "MLFLOW_", "AWS_")


class Vernal(Protocol):
    """`vernal`, as a person types it."""

    def __call__(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]: ...


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


def run_on(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command with a home of its own, and no other setting that leads anywhere."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    return subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        cwd=ROOT,
        env={**outside, "VERNAL_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


@contextmanager
def stack_with(config: pytest.Config, **environment: str) -> Iterator[Stack]:
    """The whole stack, brought up with these settings and ended by the commands themselves.

    `stack.environment` is what a command needs to use it; `VERNAL_HOME` is the folder above `stack.home`. Not below
    pytest's folder, which PostgreSQL's user may not enter. Swift is installed once, below pytest's cache.
    """
    assert config.cache
    with tempfile.TemporaryDirectory(prefix="vernal-stack-") as home:
        Path(home).chmod(0o755)
        stack = Stack(Path(home) / "stack")
        swift = config.cache.mkdir("swift") / "environment"
        LocalS3(stack.home / "s3", environment=swift).install()
        (stack.home / "s3").mkdir(parents=True)
        (stack.home / "s3" / "environment").symlink_to(swift)
        try:
            came = run_on(Path(home), "up", **environment)
            print(came.stdout)
            if "E-POSTGRES-MISSING" in came.stderr:
                pytest.skip(came.stderr)
            assert came.returncode == 0, came.stderr
            yield stack
        finally:
            ended = run_on(Path(home), "down")
            assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """The stack of this session."""
    with stack_with(pytestconfig, HF_TOKEN=HUB) as stack:
        yield stack


@pytest.fixture(scope="session")
def vernal(stack: Stack) -> Vernal:
    """Runs a command on the stack: `vernal("status", "--json")`."""
    return lambda *arguments, **environment: run_on(stack.home.parent, *arguments, **environment)


@pytest.fixture(scope="session")
def ran(stack: Stack, vernal: Vernal, tmp_path_factory: pytest.TempPathFactory) -> Scheduled:
    """A recipe that was scheduled on the stack and ran by its clock, and again by hand; all that followed is there."""
    return run_and_refuse(stack, vernal, tmp_path_factory.mktemp("scheduled"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In several processes: the tests of the stack stay in one, those of a file together."""
    for item in items:
        if item.get_closest_marker("services"):
            group = "stack" if "stack" in getattr(item, "fixturenames", ()) else item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))
