"""Rows that a model, or one that it comes from, has learned are no rows to examine it on."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import problems, recipe, stages
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
    learned = {*texts(made.checked, "train"), *texts(made.checked, "validation")}
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
    judged = verdict(child, "divided-anew")
    assert judged.gain == pytest.approx(float(after - before))
    assert judged.reasons[-1] == f"{(~new).sum()} test rows were left out, since one of the models has learned them"


def test_of_the_same_division_none_is_left_out(made: makers.Made) -> None:
    verdict(made, "divided-alike")
    child = again(made, "divided-alike", seed=0)
    assert facts(child)["seen"] == 0
    assert facts(child)["rows"] == made.checked.rows["test"]


def test_an_exam_of_which_hardly_anything_is_left_decides_nothing(made: makers.Made) -> None:
    verdict(made, "all-known")
    child = again(made, "all-known", seed=1)
    learned = pq.read_table(stages.open_file(made.checked.files["train.parquet"]))
    new = pq.read_table(stages.open_file(made.checked.files["test.parquet"])).slice(0, 19)
    exam = Exam(problems.named("text-classification"), pa.concat_tables([learned, new]))
    with pytest.raises(BadInput, match="test rows are new to the models compared") as raised:
        ancestry.unseen(exam, child.checked, [made.bundle])
    assert raised.value.code == "E-EXAM-SEEN"

    other = made.checked.model_copy(update={"digest": "sha256:" + "0" * 64})  # the same rows, as if of another source
    what = made.recipe.model_copy(update={"name": "all-known"})
    tested = child.checked.model_copy(
        update={"files": child.checked.files | {"test.parquet": made.checked.files["train.parquet"]}}
    )
    version = register.fn(what, tested, child.trained, child.bundle, child.report, other.digest)
    refused = promote.fn(version, tested, what.task, what.metric, what.gate)
    assert not refused.promoted
    assert refused.reasons[0].startswith("E-EXAM-SEEN")


def test_ancestors_are_found_in_every_generation_and_in_a_folder(made: makers.Made, tmp_path: Path) -> None:
    verdict(made, "generations")
    child = again(made, "generations", seed=1)
    copied = tmp_path / "copied"
    shutil.copytree(child.folder(child.bundle, tmp_path), copied)
    train = {"epochs": 1, "batch": 16, "learning_rate": 1e-3, "precision": "fp32"}
    sections: dict[str, Any] = {"model": {"base": str(copied)}, "tokens": {"length": 24}, "train": train}
    grandchild = makers.made(made.home, makers.recipe(**sections))
    assert [each.digest for each in ancestry.ancestors(grandchild.bundle)] == [child.bundle.digest, made.bundle.digest]


def test_a_pair_is_known_if_both_of_its_texts_are(made: makers.Made) -> None:
    (one, two, *_), fresh = texts(made.checked, "train"), texts(made.checked, "test")
    pairs = [(one, two), (one, fresh[0]), *((each, each) for each in fresh[:20])]
    table = pa.table({"text": [a for a, _ in pairs], "pair": [b for _, b in pairs], "label": ["x"] * len(pairs)})
    exam = Exam(problems.named("pair-classification"), table)
    other = made.checked.model_copy(update={"digest": "sha256:" + "0" * 64})
    assert ancestry.unseen(exam, other, [made.bundle]).tolist() == [False, *[True] * 21]


def test_rows_that_are_not_in_the_store_any_more_are_not_left_out(
    made: makers.Made, caplog: pytest.LogCaptureFixture
) -> None:
    exam = Exam.read("text-classification", stages.open_file(made.checked.files["train.parquet"]))
    other = made.checked.model_copy(update={"digest": "sha256:" + "0" * 64})
    gone = made.bundle.model_copy(update={"parents": (*made.bundle.parents[:2], "sha256:" + "1" * 64)})
    with caplog.at_level("WARNING"):
        assert ancestry.unseen(exam, other, [gone]).all()
    assert "not in the store any more" in caplog.text
