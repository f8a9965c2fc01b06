"""What is asked for decides what is written."""

import json
from pathlib import Path

import numpy as np
import pytest

from tasks.model.bundle import Model
from tests import makers


def asked(count: int, seed: int) -> list[dict[str, str]]:
    """A subject and some words that have nothing to do with it, and a text of that subject that begins with them."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        subject, words = str(draw.choice(list(makers.SUBJECTS))), [*map(str, draw.choice(makers.FILLING, 2))]
        told = " ".join([*words, *draw.choice(makers.SUBJECTS[subject], 3, replace=False)])
        found.append({"prompt": f"{' '.join(words)} , {subject}", "answer": told})
    return found


@pytest.mark.matrix
def test_a_text_is_of_the_subject_that_was_asked_for(tmp_path: Path) -> None:
    beside = tmp_path / "asked"
    beside.mkdir()
    (beside / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked(600, seed=0)))
    recipe = makers.recipe(
        "instruction",
        model={"base": makers.ENCODER | {"architecture": "decoder", "num_layers": 2, "d_model": 64}},
        tokens={"length": 48, "tokenizer": {"train": "byte-bpe", "vocabulary": 400}},
        train={"epochs": 12, "batch": 16, "learning_rate": 3e-3, "precision": "fp32", "early_stopping": 0},
        package={"decoding": {"length": 16}},
    )
    with makers.at_home(tmp_path / "home"):
        made = makers.walked(tmp_path / "home", recipe, beside)
        model = Model.load(made.folder(made.bundle, tmp_path))
    prompts = [row["prompt"] for row in asked(60, seed=1)]
    right = []
    for prompt, told in zip(prompts, model.predict(prompts), strict=True):
        words = set(told.answer.split())
        right.append([name for name, own in makers.SUBJECTS.items() if words & set(own)] == [prompt.split()[-1]])
    assert np.mean(right) > 0.95
