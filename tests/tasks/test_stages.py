"""What a stage gives is what its manifest says, whether it was made now or by an earlier run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasks import stages
from tasks.errors import Missing
from tasks.records import Checked

KEY = stages.Key("validate", 1, Checked, (), {"rules": 1})


def make(_folder: Path) -> Checked:
    files = {"train.parquet": stages.put(b"rows")}
    return Checked.of(files, rows={"train": 3, "validation": 2, "test": 1}, quarantined=0, labels=("b", "a"))


def test_a_stage_is_made_once() -> None:
    calls: list[Path] = []

    def counted(folder: Path) -> Checked:
        calls.append(folder)
        return make(folder)

    assert stages.once(KEY, counted) == stages.once(KEY, counted)
    assert len(calls) == 1
    assert not calls[0].exists()


def test_a_record_that_was_just_made_reads_like_the_one_that_is_reused() -> None:
    """Down to the order of its names: what is written from a record must not tell a killed run from a whole one."""
    made, reused = stages.once(KEY, make), stages.once(KEY, make)
    assert made.model_dump_json() == reused.model_dump_json()


def test_a_stage_whose_bytes_are_gone_is_made_again() -> None:
    made = stages.once(KEY, make)
    stages.artifacts().delete(made.files["train.parquet"].digest)
    assert stages.find(KEY) is None
    stages.once(KEY, make)
    assert stages.artifacts().read(made.files["train.parquet"].digest) == b"rows"


KILLED = """
import os
from tasks import stages

with stages.workplace("finetune") as folder:
    (folder / "half.safetensors").write_bytes(b"1")
    os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_half_made_is_gone_when_another_begins(home: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=Path(__file__).parents[2], env=dict(os.environ))
    assert killed.returncode == -9
    assert [path.name for path in home.glob("work/*/*")] == ["half.safetensors"]
    with stages.workplace("package") as folder:
        assert list((home / "work").iterdir()) == [folder]
    assert list((home / "work").iterdir()) == []


def test_what_others_are_still_making_stays(home: Path) -> None:
    with stages.workplace("finetune") as one, stages.workplace("finetune") as other:
        assert one != other
        with stages.workplace("evaluate"):
            assert one.is_dir()
            assert other.is_dir()
    assert list((home / "work").iterdir()) == []


def test_a_record_is_found_by_what_it_is_however_many_others_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):
        key = stages.Key("validate", 1, Checked, (), {"rules": number})
        made = stages.once(key, lambda _, number=number: make(Path()).model_copy(update={"quarantined": number}))
    reads: list[str] = []
    read = stages.artifacts().read_manifest
    monkeypatch.setattr(stages.artifacts(), "read_manifest", lambda name: reads.append(name) or read(name))
    assert stages.by_digest("validate", Checked, made.digest) == made
    assert len(reads) == 2
    with pytest.raises(Missing, match="E-REG-MISSING"):
        stages.by_digest("validate", Checked, f"sha256:{0:064}")
