"""The words that an answer is said to hang on are those without which the model answers otherwise."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tasks import problems, stages
from tasks.model import attribution
from tasks.model.attribution import Part
from tasks.model.bundle import Model
from tasks.model.exam import Exam, Sitting
from tasks.problems.contract import Prediction
from tasks.problems.text_classification import sigmoid
from tests import makers


def facts(made: makers.Made) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stages.open_file(made.report.files["report.json"]).read_text())
    return found


def test_the_words_that_weigh_most_are_those_that_tell_the_label(texts: makers.Made) -> None:
    found = facts(texts)["attribution"]
    assert len(found["rows"]) == attribution.ROWS
    heaviest = [max(words, key=lambda each: each[1])[0] for row in found["rows"] for words in row["texts"]]
    told = [word in makers.SUBJECTS[row["answer"]] for word, row in zip(heaviest, found["rows"], strict=True)]
    assert sum(told) > 0.7 * len(told)  # a mistake may hang on a word that tells nothing; two words in eight do


def test_mistakes_come_first_and_the_most_confident_of_them(texts: makers.Made) -> None:
    rows = facts(texts)["attribution"]["rows"]
    wrong = [row["answer"] != row["truth"] for row in rows]
    assert wrong == sorted(wrong, reverse=True)
    mistaken = [row["chance"] for row in rows if row["answer"] != row["truth"]]
    assert len(mistaken) > 1
    assert mistaken == sorted(mistaken, reverse=True)


def test_an_answer_loses_more_without_its_words_than_without_others(texts: makers.Made) -> None:
    found = facts(texts)["attribution"]
    assert found["weightiest"] > 0.3
    assert found["weightiest"] > 3 * abs(found["others"])


def test_the_odds_of_a_label_are_those_of_the_answer(texts: makers.Made, tmp_path: Path) -> None:
    model = Model.load(texts.folder(texts.bundle, tmp_path))
    rows: list[Any] = [{"text": row["text"]} for row in makers.messages(5, seed=3)]
    for row, told in zip(rows, model.predict(rows), strict=True):
        assert sigmoid(attribution.log_odds(model, [row], told.answer)) == pytest.approx([told.score])


def test_rows_that_were_cut_or_have_few_words_are_passed_over() -> None:
    rows = ["cut off at the end", "too short here", "wrong but long enough", "right and long enough"]
    exam = Exam(problems.named("text-classification"), pa.table({"text": rows, "label": ["a", "a", "a", "b"]}))
    answers = tuple(Prediction("b", 0.9, truncated=row.startswith("cut")) for row in rows)
    found = attribution.most_confident(Sitting(exam, answers, ("a", "b")))
    assert [number for number, _ in found] == [2, 3]


def test_what_is_cut_out_leaves_the_rest_of_each_text() -> None:
    row = {"text": "one two three", "pair": "四五 six", "label": "x"}
    parts = attribution.parts_of(problems.named("pair-classification"), row)
    assert [row[part.role][part.start : part.end] for part in parts] == ["one", "two", "three", "四", "五", "six"]
    left = attribution.without(row, [parts[0], parts[2], parts[4]])
    assert left == {"text": " two ", "pair": "四 six", "label": "x"}


def test_of_a_long_text_words_are_taken_away_together() -> None:
    row = {"text": " ".join(str(number) for number in range(1000))}
    parts = attribution.parts_of(problems.named("text-classification"), row)
    assert len(parts) == attribution.PARTS
    assert parts[0] == Part("text", 0, len(" ".join(map(str, range(16)))))
    assert parts[-1].end == len(row["text"])
    assert np.all(np.diff([part.start for part in parts]) > 0)


def test_rows_of_words_or_of_numbers_are_not_explained(words: makers.Made) -> None:
    assert facts(words)["attribution"] is None
