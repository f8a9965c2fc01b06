"""Datasets of a hub that answers, that does not, and that breaks off."""

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from tasks import stages
from tasks.data.ingest import ingest
from tasks.data.readers import hub
from tasks.data.readers.lines import Row
from tasks.errors import BadInput, Missing, Unreachable
from tasks.recipe import Data
from tasks.records import Snapshot
from tests import makers
from tests.hub import Hub

REVISION = "3" * 40


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


@pytest.fixture
def tickets(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of three splits at REVISION, one of its rows without a label."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.endpoint)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "datasets-cache"))
    folder = hub.root / "org" / "tickets" / REVISION
    folder.mkdir(parents=True)
    for number, split in enumerate(("train", "validation", "test")):
        lines = [json.dumps({**row, "label": row["label"] if i else None}) for i, row in enumerate(makers.messages(9))]
        (folder / f"{split}.jsonl").write_text("\n".join(lines[number:]))
    return folder


def taken(where: Path, source: str) -> Snapshot:
    return ingest.fn(Data(source=source), "text-classification", str(where))


def rows_of(snapshot: Snapshot) -> list[dict[str, Any]]:
    table = pq.read_table(stages.open_file(snapshot.files["rows.parquet"]))
    found: list[dict[str, Any]] = table.select(["split", "text", "label", "extra"]).to_pylist()
    return sorted(found, key=lambda row: row["split"])


def test_a_revision_is_read_once_and_its_manifest_counts_rows_and_names_digests(
    hub: Hub, tickets: Path, tmp_path: Path
) -> None:
    snapshot = taken(tmp_path, f"hf://org/tickets@{REVISION}")
    assert (snapshot.rows, snapshot.quarantined) == (9 + 8 + 7 - 1, 1)
    assert snapshot.inputs == {"org/tickets": REVISION}
    (name,) = stages.artifacts().manifests("ingest/")
    manifest = stages.artifacts().read_manifest(name)
    assert manifest is not None
    assert manifest["record"] == snapshot.model_dump(mode="json")
    for file in snapshot.files.values():
        content = stages.open_file(file).read_bytes()
        assert (file.digest, file.size) == (f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))
    assert rows_of(snapshot) == rows_of(taken(tmp_path, str(tickets)))
    hub.server_close()
    assert taken(tmp_path, f"hf://org/tickets@{REVISION}") == snapshot
    assert stages.REUSED.get()


def test_a_loading_script_beside_the_rows_is_refused(tickets: Path, tmp_path: Path) -> None:
    (tickets / "tickets.py").write_text("raise SystemExit")
    with pytest.raises(BadInput, match=r"E-POLICY.*tickets.py"):
        taken(tmp_path, f"hf://org/tickets@{REVISION}")


def test_a_revision_that_the_hub_does_not_have_is_missing(tickets: Path, tmp_path: Path) -> None:
    with pytest.raises(Missing, match="E-HUB-MISSING"):
        taken(tmp_path, f"hf://org/tickets@{'4' * 40}")
