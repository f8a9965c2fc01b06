"""Curves never stand in the way of the run that sends them."""

import socket
import time
from collections.abc import Iterator

import pytest

from infra.settings import settings
from tasks.errors import Interrupted
from tasks.model import curves


@pytest.fixture
def silent_registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A registry that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("VERNAL_MLFLOW", f"http://127.0.0.1:{server.getsockname()[1]}")
        settings.cache_clear()
        yield


def test_a_run_that_must_end_does_not_wait_for_a_registry_that_is_silent(
    silent_registry: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "HURRY", 0.3)
    began = time.monotonic()
    there = curves.Curves("small", "sha256:0")
    there.__enter__()
    there.add(1, loss=0.5)
    there.__exit__(Interrupted)
    assert time.monotonic() - began < 3
