"""A report says what the base did before: as it is, where it can be asked, and from a few rows of each label."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

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
