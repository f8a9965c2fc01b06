"""Two processes make of a batch what one makes of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tasks import stages
from tasks.data.ingest import ingest
from tasks.data.tokenise import tokenise
from tasks.data.validate import validate
from tasks.errors import BadInput
from tasks.model.finetune import finetune
from tasks.model.load import load
from tasks.recipe import Recipe
from tasks.records import Checkpoint
from tests import makers

ALONE = {"epochs": 7, "batch": 16, "learning_rate": 3e-3, "precision": "fp32", "micro_batch": 6, "early_stopping": 0}
TOGETHER = {**ALONE, "launch": "torchrun", "processes": 2}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    with makers.at_home(tmp_path / "home"):
        yield tmp_path / "home"


def trained(home: Path, what: Recipe, rows: int = 240) -> Checkpoint:
    """The recipe up to its trained model."""
    beside = home.parent / "recipe"
    makers.rows_of(what.task, rows, beside)
    snapshot = ingest.fn(what.data, what.task, str(beside))
    checked = validate.fn(snapshot, what.task, what.data, what.rules)
    base = load.fn(what.model, str(beside))
    shards = tokenise.fn(checked, base, what.task, what.tokens)
    return finetune.fn(base, shards, what.task, what.train, what.name, what.digest)


def history(made: Checkpoint) -> dict[str, list[float]]:
    """Losses of the steps that were noted, and of the evaluations."""
    points = [json.loads(line) for line in stages.open_file(made.files["history.jsonl"]).read_text().splitlines()]
    return {name: [point[name] for point in points if name in point] for name in ("loss", "validation_loss")}


def weights(made: Checkpoint) -> dict[str, torch.Tensor]:
    return load_file(stages.open_file(made.files["model.safetensors"]))


@pytest.mark.parametrize(
    ("task", "kind"),
    [
        pytest.param("text-classification", "none", marks=pytest.mark.matrix),  # test_world.py has it without torchrun
        ("token-classification", "full"),
    ],
)
def test_two_processes_train_the_model_that_one_trains(home: Path, task: str, kind: str) -> None:
    one, two = (trained(home, makers.recipe(task, train=train)) for train in (ALONE, {**TOGETHER, "sharding": kind}))
    expected, found = history(one), history(two)
    assert (one.steps, two.steps) == (56, 56)
    assert len(expected["loss"]) == 11  # of every tenth step and of those that end an epoch
    for name, losses in expected.items():
        assert np.abs(np.subtract(losses, found[name])).max() <= 1e-5
    assert one.files["config.json"] == two.files["config.json"]
    assert one.files.keys() == two.files.keys()
    for name, each in weights(one).items():
        torch.testing.assert_close(weights(two)[name], each, rtol=1e-3, atol=1e-4)


def test_what_the_job_meets_is_the_error_that_is_raised(home: Path) -> None:
    with pytest.raises(BadInput, match=r"train\.top_layers 9 > 1") as met:
        trained(home, makers.recipe(train={**TOGETHER, "top_layers": 9}))
    assert met.value.code == "E-LAYERS"
