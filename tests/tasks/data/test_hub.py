"""Datasets of a hub that does not answer, or breaks off."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tasks.data.readers import hub
from tasks.data.readers.lines import Row
from tasks.errors import BadInput, Unreachable


def test_without_network_the_answer_is_coded_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    began = time.monotonic()
    with pytest.raises(Unreachable) as error:
        hub.splits("org/name", "0" * 40)
    assert error.value.code == "E-HUB-UNAVAILABLE"
    assert time.monotonic() - began < 10


def test_a_local_folder_is_not_taken_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadInput, match="E-HUB-DATASET"):
        hub.splits("org/name", "0" * 40)


def test_a_stream_that_breaks_off_is_coded() -> None:
    class Breaking:
        features = None

        def __iter__(self) -> Iterator[dict[str, Any]]:
            yield {"text": "a"}
            raise ConnectionResetError("cut")

    rows = hub.rows(Breaking(), "org/name")
    assert next(rows) == Row(1, {"text": "a"})
    with pytest.raises(Unreachable, match="E-HUB-UNAVAILABLE"):
        next(rows)


def test_a_download_that_broke_off_is_unavailable_and_not_missing() -> None:
    with pytest.raises(Unreachable, match="E-HUB-UNAVAILABLE"), hub.coded("org/name"):
        raise LocalEntryNotFoundError("not in the cache, and it cannot be had") from ConnectionRefusedError()
