"""What is told of a fine-tuning's time before it begins is what it takes."""

import statistics
from dataclasses import replace
from pathlib import Path

import pytest

from tasks import recipe, stages
from tasks.model import pace
from tasks.model.load import load
from tasks.model.training import train
from tasks.model.world import ALONE
from tests import makers
from tests.tasks.model.jobs import job

WIDER = recipe.Architecture(architecture="encoder", num_layers=2, d_model=128, num_heads=2)


@pytest.mark.matrix
def test_a_fine_tuning_takes_the_processor_time_that_was_told(
    texts: makers.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In turns, since what a processor does in a second changes with its neighbours."""
    monkeypatch.setattr(pace, "ENOUGH", 1.0)
    wider = replace(texts, base=load.fn(recipe.Model(base=WIDER), "."))
    ratios = []
    for turn in range(3):
        folder = tmp_path / str(turn)
        doing = job(wider, folder, epochs=20)
        told = pace.measure(folder, doing)
        began = pace.now()
        train(folder, doing, ALONE)
        ratios.append(told.cpu_seconds / (pace.now() - began)[1])
    assert statistics.median(ratios) == pytest.approx(1, rel=0.2), ratios


def test_epochs_and_rows_are_multiplied(texts: makers.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "ENOUGH", 0.2)
    monkeypatch.setattr(pace, "of_a_token", lambda *_: pace.np.array([0.5, 0.25]))
    whole, half, twice = (
        pace.measure(tmp_path / name, job(texts, tmp_path / name, **dials))
        for name, dials in {"whole": {}, "half": {"max_rows": 75}, "twice": {"epochs": 8}}.items()
    )
    rows = texts.shards.tokens["train"]
    assert whole.parts["steps"].tolist() == [4 * 0.5 * rows, 4 * 0.25 * rows]
    assert half.parts["steps"][0] == pytest.approx(whole.parts["steps"][0] / 2, rel=0.1)
    assert twice.parts["steps"][0] == 2 * whole.parts["steps"][0]
    assert (half.steps, twice.steps) == (4 * 5, 2 * whole.steps)
    assert whole.seconds == pytest.approx(sum(part[0] for part in whole.parts.values()))


def test_states_of_frozen_layers_are_made_once_whatever_the_epochs(texts: makers.Made, tmp_path: Path) -> None:
    all_learn = pace.measure(tmp_path / "all", job(texts, tmp_path / "all", epochs=1))
    none_does = pace.measure(tmp_path / "none", job(texts, tmp_path / "none", epochs=1, top_layers=0))
    assert none_does.parts["frozen layers"][1] > 10 * all_learn.parts["frozen layers"][1]
    assert none_does.parts["steps"][1] < all_learn.parts["steps"][1]


def test_nothing_of_it_stays_in_the_store(texts: makers.Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "ENOUGH", 0.2)
    pace.measure(tmp_path, job(texts, tmp_path))
    there = stages.artifacts().within("there")
    assert (list(there.manifests()), list(there.digests())) == ([], [])
