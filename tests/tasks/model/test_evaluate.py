"""The report says what its own predictions say, and its page needs nothing but itself."""

import csv
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from seqeval import metrics as seqeval
from sklearn.metrics import classification_report, confusion_matrix

from tasks import problems, stages
from tasks.encoding import IGNORED
from tasks.model import pictures
from tasks.model.bundle import Model
from tasks.model.exam import Exam, Sitting
from tasks.problems.contract import Prediction
from tasks.recipe import Task
from tests import makers


def report(made: makers.Made, where: Path) -> tuple[dict[str, Any], dict[str, list[Any]], Path]:
    """What `report.json` and `predictions.parquet` say, and the folder of the report."""
    folder = made.folder(made.report, where)
    return (
        json.loads((folder / "report.json").read_text()),
        pq.read_table(folder / "predictions.parquet").to_pydict(),
        folder,
    )


def sitting(task: Task, rows: list[Any], truth: list[Any], predicted: list[Any], labels: tuple[str, ...]) -> Sitting:
    said, answer = ("tokens", "tags") if task == "token-classification" else ("text", "label")
    answers = tuple(Prediction(each, [1.0] * len(each) if isinstance(each, list) else 1.0) for each in predicted)
    return Sitting(Exam(problems.named(task), pa.table({said: rows, answer: truth})), answers, labels)


def test_the_numbers_of_texts_are_sklearns_over_the_predictions(texts: makers.Made, tmp_path: Path) -> None:
    facts, found, _ = report(texts, tmp_path)
    theirs: dict[str, Any] = classification_report(
        found["truth"], found["predicted"], output_dict=True, zero_division=0
    )
    assert facts["scores"]["accuracy"] == pytest.approx(theirs["accuracy"])
    for mean in ("macro", "weighted"):
        for ours, name in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            assert facts["scores"][f"{mean}_{ours}"] == pytest.approx(theirs[f"{mean} avg"][name])
    for label in texts.checked.labels:
        assert facts["per_class"]["f1"][label] == pytest.approx(theirs[label]["f1-score"])
        assert facts["support"][label] == theirs[label]["support"]
    assert texts.report.scores == facts["scores"]
    assert 0.7 < facts["scores"]["accuracy"] < 1


def test_the_numbers_of_words_are_seqevals_over_the_predictions(words: makers.Made, tmp_path: Path) -> None:
    facts, found, folder = report(words, tmp_path)
    truth, predicted = found["truth"], found["predicted"]
    assert facts["scores"]["entity_f1"] == pytest.approx(seqeval.f1_score(truth, predicted))
    assert facts["scores"]["accuracy"] == pytest.approx(seqeval.accuracy_score(truth, predicted))
    theirs: dict[str, Any] = seqeval.classification_report(truth, predicted, output_dict=True)
    for kind in ("LOC", "PER"):
        assert facts["per_class"]["recall"][kind] == pytest.approx(theirs[kind]["recall"])
        assert facts["support"][kind] == theirs[kind]["support"]
    flat = ([tag for row in rows for tag in row] for rows in (truth, predicted))
    tables = (
        seqeval.classification_report(truth, predicted, digits=4),
        classification_report(*flat, digits=4, zero_division=0),
    )
    assert (folder / "report.txt").read_text() == "\n".join(tables)
    assert facts["scores"]["entity_f1"] > 0.5


@pytest.mark.parametrize("kind", ["texts", "words"])
def test_the_loss_is_the_mean_over_all_labels_of_minus_ln_p(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    made: makers.Made = request.getfixturevalue(kind)
    facts, _, _ = report(made, tmp_path)
    model = Model.load(made.folder(made.bundle, tmp_path))
    exam = Exam.read(made.recipe.task, stages.open_file(made.checked.files["test.parquet"]))
    encoded = model.problem.encode(
        model.problem.columns(exam.rows, answered=True), model.encoder, {name: n for n, name in enumerate(model.labels)}
    )
    assert encoded.labels is not None
    logits = np.concatenate([np.atleast_2d(each) for each in model.outputs(encoded)])
    counts = encoded.labels != IGNORED
    chances = logits[counts] - np.log(np.exp(logits[counts]).sum(1, keepdims=True))
    true = chances[np.arange(len(chances)), encoded.labels[counts]]
    assert facts["scores"]["loss"] == pytest.approx(-true.mean(), rel=1e-4)


def test_every_test_row_is_answered_once_and_can_be_found_again(texts: makers.Made, tmp_path: Path) -> None:
    facts, found, _ = report(texts, tmp_path)
    table = pq.read_table(stages.open_file(texts.checked.files["test.parquet"]))
    assert found["row"] == table["row"].to_pylist()
    assert found["place"] == table["place"].to_pylist()
    assert found["truth"] == table["label"].to_pylist()
    assert facts["rows"] == texts.report.rows == len(table) == texts.checked.rows["test"]
    assert facts["truncated"] == sum(found["truncated"])


def test_the_calibration_error_is_that_of_the_predictions(texts: makers.Made, tmp_path: Path) -> None:
    facts, found, _ = report(texts, tmp_path)
    right = np.array(found["truth"]) == np.array(found["predicted"])
    score = np.array(found["score"])
    ece = 0.0
    for number in range(15):
        inside = (score >= number / 15) & ((score < (number + 1) / 15) | (number == 14))
        ece += abs(right[inside].sum() - score[inside].sum()) / len(score)
    assert facts["scores"]["ece"] == pytest.approx(ece)


def test_a_slice_has_the_score_of_its_rows(texts: makers.Made, tmp_path: Path) -> None:
    facts, found, _ = report(texts, tmp_path)
    table = pq.read_table(stages.open_file(texts.checked.files["test.parquet"]))
    product = [dict(each)["product"] for each in table["extra"].to_pylist()]
    for name in ("plants", "tools"):
        rows = [place for place, each in enumerate(product) if each == name]
        truth, predicted = ([found[side][place] for place in rows] for side in ("truth", "predicted"))
        theirs: dict[str, Any] = classification_report(truth, predicted, output_dict=True, zero_division=0)
        assert facts["slices"][f"product: {name}"]["rows"] == len(rows)
        assert facts["slices"][f"product: {name}"]["macro_f1"] == pytest.approx(theirs["macro avg"]["f1-score"])


def test_slices_by_length_share_the_rows_among_them(texts: makers.Made, tmp_path: Path) -> None:
    facts, _, _ = report(texts, tmp_path)
    quarters = {name: each["rows"] for name, each in facts["slices"].items() if name.startswith("length")}
    assert 3 <= len(quarters) <= 4
    assert sum(quarters.values()) == facts["rows"]
    assert all(name.endswith("characters") for name in quarters)


def test_a_slice_of_few_rows_is_left_out() -> None:
    labels = ["a", "b"] * 30
    rows = pa.table({"text": ["x"] * 60, "label": labels, "group": ["small"] * 19 + ["large"] * 41})
    assert list(Exam(problems.named("text-classification"), rows).slices(["group"])) == ["group: large"]


def test_plain_tags_are_reported_as_words() -> None:
    truth, predicted = [["NOUN", "VERB"], ["NOUN"]], [["NOUN", "NOUN"], ["NOUN"]]
    told = problems.named("token-classification").report(truth, predicted)
    assert told == classification_report(["NOUN", "VERB", "NOUN"], ["NOUN", "NOUN", "NOUN"], digits=4, zero_division=0)


@pytest.mark.parametrize("kind", ["texts", "words"])
def test_pictures_are_png_that_a_person_can_look_at(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(kind).folder(request.getfixturevalue(kind).report, tmp_path)
    for name in ("confusion.png", "calibration.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        with Image.open(folder / name) as picture:
            picture.load()
            assert all(250 < side < 3000 for side in picture.size)
            assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 10


@pytest.mark.parametrize("kind", ["texts", "words"])
def test_the_table_of_confused_labels_is_sklearns(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    _, found, folder = report(request.getfixturevalue(kind), tmp_path)
    truth, predicted = found["truth"], found["predicted"]
    if kind == "words":
        truth, predicted = ([tag[2:] or tag for row in rows for tag in row] for rows in (truth, predicted))
    labels = sorted({*truth, *predicted})
    theirs = confusion_matrix(truth, predicted, labels=labels)
    with (folder / "confusion.csv").open(newline="") as file:
        ours = {(row["true"], row["predicted"]): int(row["count"]) for row in csv.DictReader(file)}
    assert ours == {(labels[true], labels[guess]): n for (true, guess), n in np.ndenumerate(theirs) if n}


def test_of_sets_of_labels_those_that_differ_say_which_is_taken_for_which() -> None:
    sets = pa.table({"text": ["x"] * 3, "labels": [["a", "b"], ["a"], []]})
    answers = tuple(Prediction(each) for each in (["b", "c"], ["a"], ["a"]))
    sat = Sitting(Exam(problems.named("multi-label-classification"), sets), answers, ("a", "b", "c"))
    assert sorted(sat.confused) == [("(none)", "a"), ("a", "a"), ("a", "c"), ("b", "b")]


def test_of_many_labels_those_that_are_confused_are_drawn(tmp_path: Path) -> None:
    labels = tuple(f"label {n:03}" for n in range(120))
    truth = [label for label in labels for _ in range(3)]
    predicted = [*truth]
    predicted[0] = "label 001"
    pictures.confusion(sitting("text-classification", truth, truth, predicted, labels), tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as picture:
        assert max(picture.size) < 2000


def test_of_many_rows_some_are_drawn_each_with_what_it_earns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.axes import Axes

    drawn: list[np.ndarray[Any, Any]] = []
    monkeypatch.setattr(Axes, "hist", lambda _axes, values, **_how: drawn.append(values))
    rows = pa.table({"question": ["x"] * 4001, "choices": [["a", "b"]] * 4001, "answer": [0, 1, 0] * 1333 + [0, 1]})
    answers = tuple(Prediction(place % 2) for place in range(4001))
    pictures.rows(Sitting(Exam(problems.named("multiple-choice"), rows), answers, ()), "accuracy", tmp_path / "x.png")
    right = [float(true == place % 2) for place, true in enumerate(rows["answer"].to_pylist())]
    assert drawn[0].tolist() == right[::3]


class Tags(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.mark.parametrize("kind", ["texts", "words"])
def test_the_page_runs_nothing_and_asks_nobody(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = request.getfixturevalue(kind).folder(request.getfixturevalue(kind).report, tmp_path)
    page = (folder / "report.html").read_text()
    elements = Tags(page).found
    assert not {"script", "link", "iframe", "object", "embed", "form"} & {tag for tag, _ in elements}
    assert not [name for _, given in elements for name in given if name.startswith("on")]
    addresses = [given[name] or "" for _, given in elements for name in ("src", "href", "action") if name in given]
    assert len(addresses) == 2
    assert all(address.startswith("data:image/png;base64,") for address in addresses)
    assert not re.search(r"https?://|@import|url\(", page)
    policy = next(given["content"] for tag, given in elements if given.get("http-equiv") == "Content-Security-Policy")
    assert str(policy).startswith("default-src 'none'")


def test_a_hostile_label_stays_text_on_the_page(tmp_path: Path) -> None:
    from tasks.model import page

    name = "<script>alert(1)</script>"
    scores = {"macro_f1": 1.0}
    facts: dict[str, Any] = {"metric": "macro_f1", "rows": 1, "truncated": 0, "scores": scores, "slices": {}}
    facts |= {
        "gains": {name: {"gain": 0.1, "low": -0.1, "high": 0.2}},
        "baselines": {name: scores},
        "interval": {"low": 0.5, "high": 1.0, "confidence": 0.95},
    }
    facts |= {"support": {name: 1}, "per_class": {kind: {name: 1.0} for kind in ("precision", "recall", "f1")}}
    page.write(tmp_path, facts)
    written = (tmp_path / "report.html").read_text()
    assert name not in written
    assert "&lt;script&gt;" in written
