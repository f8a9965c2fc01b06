"""A report says what the base did before: as it is, where it can be asked, and from a few rows of each label."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tasks import problems
from tasks.model import before
from tests import makers

TRAIN = {"epochs": 1, "batch": 16, "learning_rate": 1e-4, "precision": "fp32"}


def report(made: makers.Made, where: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((made.folder(made.report, where) / "report.json").read_text())
    return found


def test_a_model_that_is_trained_again_is_shown_beside_what_it_was(texts: makers.Made, tmp_path: Path) -> None:
    shutil.copytree(texts.folder(texts.trained, tmp_path / "there"), tmp_path / "base")
    first = texts.report.scores
    sections: dict[str, Any] = {"model": {"base": str(tmp_path / "base")}, "tokens": {"length": 24}, "train": TRAIN}
    with makers.at_home(tmp_path / "home"):
        made = makers.made(tmp_path / "home", makers.recipe(**sections))
        facts, page = report(made, tmp_path), (made.folder(made.report, tmp_path) / "report.html").read_text()
    was, few = facts["baselines"][before.ZERO], facts["baselines"][before.FEW]
    assert {metric: was[metric] for metric in was} == pytest.approx({metric: first[metric] for metric in was})
    assert few["accuracy"] > 0.8
    for name, scores in facts["baselines"].items():
        gained = facts["gains"][name]
        assert gained["gain"] == pytest.approx(facts["scores"]["macro_f1"] - scores["macro_f1"])
        assert gained["low"] <= gained["gain"] <= gained["high"]
    assert before.ZERO in page


def test_what_had_no_weights_before_has_no_before(texts: makers.Made, tmp_path: Path) -> None:
    assert list(report(texts, tmp_path)["baselines"]) == ["the most frequent label"]


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small language model that was trained to tell the label behind a text."""
    rows = [{"prompt": row["text"], "answer": row["label"]} for row in makers.messages(300)]
    recipe = makers.recipe(
        "instruction",
        model={"base": makers.ENCODER | {"architecture": "decoder", "num_layers": 2, "d_model": 64}},
        tokens={"length": 96, "tokenizer": {"train": "byte-bpe", "vocabulary": 400}},
        train=TRAIN | {"epochs": 20, "learning_rate": 3e-3, "early_stopping": 0},
    )
    there = tmp_path_factory.mktemp("telling")
    (there / "told").mkdir()
    (there / "told" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with makers.at_home(there / "home"):
        made = makers.walked(there / "home", recipe, there / "told")
        shutil.copytree(made.folder(made.trained, there), there / "base")
    return there / "base"


@pytest.mark.matrix
def test_a_language_model_answers_before_it_is_trained_with_the_likeliest_label(telling: Path, tmp_path: Path) -> None:
    sections: dict[str, Any] = {"model": {"base": str(telling)}, "tokens": {"length": 96}, "train": TRAIN}
    with makers.at_home(tmp_path / "home"):
        facts = report(makers.made(tmp_path / "home", makers.recipe(**sections)), tmp_path)
    assert list(facts["baselines"]) == ["the most frequent label", before.TOLD, before.FEW]
    assert facts["baselines"][before.TOLD]["accuracy"] > 0.7


@pytest.mark.matrix
def test_and_with_the_likeliest_choice(telling: Path, tmp_path: Path) -> None:
    names, rows = list(makers.SUBJECTS), makers.messages(300)
    places = [each % len(names) for each in range(len(rows))]  # where the order of the choices begins
    choices = [names[place:] + names[:place] for place in places]
    asked = [
        {"question": row["text"], "choices": each, "answer": each.index(row["label"])}
        for row, each in zip(rows, choices, strict=True)
    ]
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked" / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    recipe = makers.recipe("multiple-choice", model={"base": str(telling)}, tokens={"length": 96}, train=TRAIN)
    with makers.at_home(tmp_path / "home"):
        facts = report(makers.walked(tmp_path / "home", recipe, tmp_path / "asked"), tmp_path)
    assert facts["baselines"][before.TOLD]["accuracy"] > 0.7
    assert facts["baselines"]["the longest choice"]["accuracy"] < 0.6


def test_labels_that_are_written_alike_are_not_put_to_a_language_model() -> None:
    problem = problems.named("text-classification")
    assert problem.posed({"text": "a"}, ("late_order", "late order")) is None
    assert problem.posed({"text": "a"}, ("late_order", "praise")) == (
        "a",
        {"late order": "late_order", "praise": "praise"},
    )
