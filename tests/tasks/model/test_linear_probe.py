"""A probe knows what states tell, and says nothing where it cannot ask."""

from pathlib import Path

import numpy as np
import pytest

from tasks.data import batches, shards
from tasks.model import linear_probe
from tasks.model.training import model_of
from tests import makers
from tests.tasks.model.jobs import job


def test_words_that_tell_labels_are_found_and_labels_that_nothing_tells_are_not(
    texts: makers.Made, tmp_path: Path
) -> None:
    doing = job(texts, tmp_path)
    known = linear_probe.score(tmp_path, doing)
    labels = tmp_path / "shards" / "train" / "labels.bin"
    shuffled = np.random.default_rng(0).permutation(np.fromfile(labels, np.int32))
    labels.unlink()
    shuffled.tofile(labels)
    guessed = linear_probe.score(tmp_path, doing)
    assert known is not None
    assert guessed is not None
    assert known > 0.7 > 0.5 > guessed


def test_padding_is_no_part_of_a_mean(texts: makers.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(tmp_path, job(texts, tmp_path)).eval()
    rows = batches.taken(shards.read(tmp_path / "shards" / "train"), np.arange(40))
    together = linear_probe.states(model, rows)
    monkeypatch.setitem(batches.AT_ONCE, "cpu", 1)
    assert np.allclose(linear_probe.states(model, rows), together, atol=1e-5)


def test_rows_of_many_labels_are_not_probed(words: makers.Made, tmp_path: Path) -> None:
    assert linear_probe.score(tmp_path, job(words, tmp_path)) is None


def test_rows_of_one_label_are_not_probed(texts: makers.Made, tmp_path: Path) -> None:
    doing = job(texts, tmp_path)
    labels = tmp_path / "shards" / "train" / "labels.bin"
    same = np.zeros_like(np.fromfile(labels, np.int32))
    labels.unlink()
    same.tofile(labels)
    assert linear_probe.score(tmp_path, doing) is None
