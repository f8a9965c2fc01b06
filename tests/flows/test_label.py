"""What `vernal label` prints is what a source may be: people annotate it, or it trains as it is."""

import json
import logging
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest

from flows.__main__ import main
from infra.ledger import Ledger
from infra.settings import settings
from tasks import stages
from tasks.data.ingest import ingest
from tasks.data.tokenise import tokenise
from tasks.data.validate import validate
from tasks.errors import BadInput
from tasks.model.bundle import Model
from tasks.model.finetune import finetune
from tasks.model.load import load
from tasks.model.package import package
from tasks.recipe import Recipe
from tasks.records import Bundle, Record, Snapshot, Version
from tests import makers

MESSAGES = makers.messages(150)
ROWS: dict[str, list[dict[str, Any]]] = {
    "text-classification": [
        {"message": row["text"], "intent": row["label"], "who": row["product"]} for row in MESSAGES
    ],
    "pair-classification": [{"text": a["text"], "pair": b["text"], "label": b["label"]} for a, b in pairwise(MESSAGES)],
    "multi-label-classification": [
        {"text": row["text"], "labels": [row["label"]] * (row["product"] == "plants")} for row in MESSAGES
    ],
}
COLUMNS = {"text-classification": {"text": "message", "label": "intent"}}


def recipe(task: str) -> Recipe:
    data = {"source": "rows.jsonl", "split": {"by": "stratified", "validation": 0.2, "test": 0.2}}
    train = {"epochs": 2, "batch": 16, "learning_rate": 3e-3, "precision": "fp32"}
    return makers.recipe(task, name=task, train=train, data=data | COLUMNS.get(task, {}))


def version(what: Recipe, bundle: str, report: str = f"sha256:{0:064}") -> Version:
    """Version 1 of a bundle, as far as the store knows it."""
    own = {"name": what.name, "number": 1, "bundle": bundle, "report": report}
    key = stages.Key("register", 1, Version, (bundle, report), {"name": what.name})
    return stages.once(key, lambda _: Version.of({"recipe.json": stages.put(what.model_dump_json().encode())}, **own))


def write(path: Path, rows: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def bundle(beside: Path, task: str) -> Bundle:
    """A small model of the rows above."""
    what = recipe(task)
    write(beside / "rows.jsonl", ROWS[task])
    checked = validate.fn(ingest.fn(what.data, task, str(beside)), task, what.data, what.rules)
    base = load.fn(what.model, str(beside))
    shards = tokenise.fn(checked, base, task, what.tokens)
    trained = finetune.fn(base, shards, task, what.train, what.name, what.digest)
    return package.fn(trained, shards, checked, task, what.package)


class Labellers(NamedTuple):
    """A home with version 1 of a model for each of the problems, called as it; that of texts is champion."""

    home: Path
    bundles: dict[str, Bundle]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Labellers:
    home = tmp_path_factory.mktemp("label") / "home"
    with makers.at_home(home):
        bundles = {task: bundle(home.parent / task, task) for task in ROWS}
        for task, each in bundles.items():
            version(recipe(task), each.digest)
        ledger = Ledger(settings().ledger_url)
        with ledger.lease("model:text-classification") as lease:
            ledger.decide(lease, model="text-classification", version=1, kind="promoted", key="x", body={"reasons": []})
    return Labellers(home, bundles)


@pytest.fixture(autouse=True)
def at_home(home: Path, made: Labellers) -> Iterator[None]:
    with makers.at_home(made.home):
        yield


def labelled(capsys: pytest.CaptureFixture[str], model: str, source: Path) -> list[dict[str, Any]]:
    assert main(["label", model, str(source)]) == 0
    tasks: list[dict[str, Any]] = json.loads(capsys.readouterr().out)
    return tasks


def refusal(capsys: pytest.CaptureFixture[str], model: str, source: str | Path) -> str:
    assert main(["label", model, str(source)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err.splitlines()[-1]


def taken(task: str, source: Path) -> Snapshot:
    """What the recipe of a model finds in a source."""
    return ingest.fn(recipe(task).data.model_copy(update={"source": source.name}), task, str(source.parent))


def table(record: Record, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(stages.open_file(record.files[f"{name}.parquet"])).to_pylist()
    return rows


def test_tasks_have_the_champion_s_answers_under_the_recipe_s_names_the_least_certain_first(
    made: Labellers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = {row["message"]: row for row in ROWS["text-classification"][:40]}
    tasks = labelled(capsys, "text-classification", write(tmp_path / "rows.jsonl", rows.values()))
    model = Model.load(stages.checkout(made.bundles["text-classification"].files, tmp_path / "bundle"))
    for task in tasks:
        row = rows[task["data"]["message"]]
        assert task["data"] == {"message": row["message"], "who": row["who"]}, "not what the row itself says"
        (answer,) = model.predict([row["message"]])
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == "text-classification@1"
        assert prediction["score"] == pytest.approx(answer.score)
        place = {"from_name": "intent", "to_name": "message", "type": "choices"}
        assert prediction["result"] == [place | {"value": {"choices": [answer.answer]}}]
    scores = [task["predictions"][0]["score"] for task in tasks]
    assert len(scores) == len(rows)
    assert scores == sorted(scores)


def test_what_is_printed_is_one_array_with_a_task_on_each_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    messages = ["Wo bleibt mein Päckchen?", "耙子坏了"]
    source = write(tmp_path / "rows.jsonl", [{"message": each} for each in messages])
    assert main(["label", "text-classification", str(source)]) == 0
    printed = capsys.readouterr().out
    lines = [line.strip("[ ,]") for line in printed.splitlines()]
    assert [json.loads(line) for line in lines] == json.loads(printed)
    assert all(each in printed for each in messages)


def test_whoever_reads_only_the_beginning_gets_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "rows.jsonl", ROWS["text-classification"])
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        monkeypatch.setattr("sys.stdout", closed)
        assert main(["label", "text-classification", str(source)]) == 141
    monkeypatch.undo()


def test_a_set_of_labels_is_as_certain_as_its_least_certain_label_named_or_not(
    made: Labellers, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = "multi-label-classification"
    texts = [row["text"] for row in ROWS[task][:40]]
    tasks = labelled(capsys, f"{task}@1", write(tmp_path / "rows.jsonl", [{"text": text} for text in texts]))
    model = Model.load(stages.checkout(made.bundles[task].files, tmp_path / "bundle"))
    found = {each["data"]["text"]: each["predictions"][0] for each in tasks}
    outputs = model.outputs(model.problem.given(model, [{"text": text} for text in texts]))
    for text, logits in zip(texts, outputs, strict=True):
        chances = 1 / (1 + np.exp(-logits))
        assert found[text]["score"] == pytest.approx(np.where(chances > 0.5, chances, 1 - chances).min(), abs=1e-5)
    assert min(len(each["result"][0]["value"]["choices"]) for each in found.values()) == 0


@pytest.mark.parametrize("task", ROWS)
def test_the_recipe_reads_the_tasks_back_as_automatic_rows_with_their_confidence(
    task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = recipe(task)
    tasks = labelled(capsys, f"{task}@1", write(tmp_path / "rows.jsonl", ROWS[task]))
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks))
    ((inputs, *_), (answers,)) = what.problem.inputs, what.problem.answers
    for row, each in zip(table(taken(task, path), "rows"), tasks, strict=True):
        (prediction,) = each["predictions"]
        choices = prediction["result"][0]["value"]["choices"]
        assert row[inputs] == each["data"][what.data.columns(what.problem)[inputs]]
        assert row[answers] == (choices if answers == "labels" else choices[0])
        assert float(dict(row["extra"])["confidence"]) == prediction["score"]
        assert row["split"] == "automatic"


def test_annotated_tasks_examine_and_the_others_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = "text-classification"
    what, said = recipe(task), {row["message"]: row["intent"] for row in ROWS[task]}
    tasks = labelled(capsys, task, write(tmp_path / "rows.jsonl", ROWS[task]))
    for each in tasks[:100]:
        result = {"from_name": "intent", "type": "choices", "value": {"choices": [said[each["data"]["message"]]]}}
        each["annotations"] = [{"result": [result]}]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks))
    checked = validate.fn(taken(task, path), task, what.data, what.rules)
    rows = {split: table(checked, split) for split in checked.rows}
    assert [row["split"] for row in rows["train"]].count("automatic") == len(tasks) - 100
    for row in rows["validation"] + rows["test"]:
        assert row["split"] == ""
        assert row["label"] == said[row["text"]]
        assert "confidence" not in dict(row["extra"])


def test_rows_that_cannot_be_answered_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    source = write(tmp_path / "rows.jsonl", [{"message": "where is my parcel"}, {"text": "so it is"}, [1]])
    with caplog.at_level(logging.INFO, "vernal.label"):
        assert len(labelled(capsys, "text-classification", source)) == 1
    assert "rows.jsonl:2 'message' is not there; rows.jsonl:3 found a list, wanted an object" in caplog.text


def chosen(**controls: str) -> dict[str, Any]:
    parts = [{"from_name": name, "type": "choices", "value": {"choices": [each]}} for name, each in controls.items()]
    return {"score": 0.9, "result": parts}


def test_of_tasks_that_were_labelled_before_the_data_are_kept_and_nothing_that_was_chosen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    data = [{"message": f"where is my parcel {i}", "who": "Ann"} for i in range(4)]
    told = [
        {"predictions": [chosen(intent="delivery", tone="calm")]},
        {"annotations": [chosen(tone="angry")]},
        {"annotations": [chosen(intent="delivery")], "predictions": [chosen(intent="refund")]},
        {},
    ]
    source = tmp_path / "source.json"
    source.write_text(json.dumps([{"data": each, **more} for each, more in zip(data, told, strict=True)]))
    with caplog.at_level(logging.INFO, "vernal.label"):
        tasks = labelled(capsys, "text-classification", source)
    assert "3 rows; annotated: 1;" in caplog.text
    assert sorted(task["data"]["message"] for task in tasks) == [data[i]["message"] for i in (0, 1, 3)]
    for task in tasks:
        assert task["data"].keys() == {"message", "who"}
        task["annotations"] = [chosen(intent="delivery")]
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps(tasks))
    other = recipe("text-classification").data.model_copy(update={"source": path.name, "label": "tone"})
    with pytest.raises(BadInput, match="E-SCHEMA column 'tone'"):
        ingest.fn(other, "text-classification", str(tmp_path))


def test_no_label_of_several_is_an_annotation_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source.json"
    nothing = {"data": {"text": "thank you"}, "annotations": [{"result": []}]}
    source.write_text(json.dumps([{"data": {"text": "the rake broke"}}, nothing]))
    (task,) = labelled(capsys, "multi-label-classification@1", source)
    assert task["data"] == {"text": "the rake broke"}


def test_where_a_person_annotated_all_there_is_nothing_to_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "source.json"
    source.write_text(json.dumps([{"data": {"message": "where is it"}, "annotations": [chosen(intent="delivery")]}]))
    assert "no rows, besides 1 that a person annotated;" in refusal(capsys, "text-classification", source)


def test_what_cannot_be_answered_is_one_coded_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "text-classification"
    nothing = write(tmp_path / "nothing.jsonl", [{"text": "so it is"}])
    assert "E-DATA-EMPTY" in (told := refusal(capsys, name, nothing))
    assert "none of 1 rows can be answered: nothing.jsonl:1 'message' is not there" in told
    assert refusal(capsys, name, write(tmp_path / "empty.jsonl", [])).startswith("E-DATA-EMPTY")
    assert refusal(capsys, name, tmp_path / "none.jsonl").startswith("E-SOURCE-MISSING")
    assert refusal(capsys, f"{name}@7", nothing).startswith(f"E-REG-MISSING {name}@7: not found; there are versions 1")
    assert "secret" not in (told := refusal(capsys, name, "s3://me:secret@bucket/rows.jsonl"))
    assert told.startswith("E-SOURCE-SCHEME")


def test_a_model_that_gives_no_label_to_a_row_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version(makers.recipe("token-classification", name="tagger"), f"sha256:{0:064}")
    told = refusal(capsys, "tagger@1", tmp_path)
    assert told.startswith("E-LABEL-TASK tagger@1 is a model of token-classification; wanted")
