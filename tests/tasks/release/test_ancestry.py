"""Rows that a model, or one that it comes from, has learned are no rows to examine it on."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks import recipe, stages
from tasks.errors import BadInput
from tasks.model import ancestry
from tasks.model.bundle import Model
from tasks.model.exam import Exam
from tasks.records import Checked, Verdict
from tasks.release.promote import promote
from tasks.release.register import register
from tests import makers


@pytest.fixture(autouse=True)
def at_home(home: Path, made: makers.Made, mlflow_at_home: None) -> Iterator[None]:
    with makers.at_home(made.home, mlflow=f"sqlite:///{home}/mlflow.db"):
        yield


def verdict(made: makers.Made, name: str) -> Verdict:
    what = recipe.Recipe.model_validate({**made.recipe.model_dump(), "name": name})
    version = register.fn(what, made.checked, made.trained, made.bundle, made.report, f"sha256:{what.digest[7:]}")
    return promote.fn(version, made.checked, what.task, what.metric, what.gate)


def again(made: makers.Made, name: str, seed: int) -> makers.Made:
    """The champion of that name, trained on once more, after the rows were divided by this seed."""
    data = {"source": "rows.jsonl", "split": {"validation": 0.2, "test": 0.3, "seed": seed}}
    train = {"epochs": 1, "batch": 16, "learning_rate": 1e-3, "precision": "fp32"}
    sections: dict[str, Any] = {"model": {"base": f"registry://{name}@champion"}, "tokens": {"length": 24}}
    return makers.made(made.home, makers.recipe(data=data, train=train, **sections))


def texts(checked: Checked, split: str) -> list[str]:
    found: list[str] = pq.read_table(stages.open_file(checked.files[f"{split}.parquet"]))["text"].to_pylist()
    return found


def facts(made: makers.Made) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stages.open_file(made.report.files["report.json"]).read_text())
    return found


def test_test_rows_that_an_ancestor_learned_are_left_out_of_the_exam_and_of_the_gate(
    made: makers.Made, tmp_path: Path
) -> None:
    verdict(made, "divided-anew")
    child = again(made, "divided-anew", seed=1)
    learned = set(texts(made.checked, "train"))
    new = np.array([text not in learned for text in texts(child.checked, "test")])
    assert 0 < new.sum() < len(new)
    found = facts(child)
    assert (found["rows"], found["seen"]) == (new.sum(), (~new).sum())
    assert [each.digest for each in ancestry.ancestors(child.bundle)] == [made.bundle.digest]

    exam = Exam.read("text-classification", stages.open_file(child.checked.files["test.parquet"])).at(new)
    before, after = (
        exam.sat_by(Model.load(each.folder(each.bundle, tmp_path))).marks.score("macro_f1") for each in (made, child)
    )
    assert found["scores"]["macro_f1"] == pytest.approx(float(after))
    assert verdict(child, "divided-anew").gain == pytest.approx(float(after - before))


def test_of_the_same_division_none_is_left_out(made: makers.Made) -> None:
    verdict(made, "divided-alike")
    child = again(made, "divided-alike", seed=0)
    assert facts(child)["seen"] == 0
    assert facts(child)["rows"] == made.checked.rows["test"]


def test_an_exam_of_which_nothing_is_left_is_refused(made: makers.Made) -> None:
    verdict(made, "all-known")
    child = again(made, "all-known", seed=1)
    exam = Exam.read("text-classification", stages.open_file(made.checked.files["train.parquet"]))
    with pytest.raises(BadInput, match="test rows were learned by a model") as raised:
        ancestry.unseen(exam, child.checked, [made.bundle])
    assert raised.value.code == "E-EXAM-SEEN"
