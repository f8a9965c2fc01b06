"""What is true of every task's marks: resamples, slices, which way is better, and names that cost nothing."""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tasks.metrics import answers, counts, entities, generation, intervals, labels, likelihood, numbers, ranking
from tasks.metrics.marks import LOWER, Marks, gain
from tasks.recipe import Gate
from tasks.release import gate

DRAW = np.random.default_rng(0)
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
WORDS = ("the", "rose", "needs", "water", "today", "and", "no", "salt", "玫瑰")


def sentence() -> str:
    return " ".join(DRAW.choice(WORDS, int(DRAW.integers(4, 9))))


def made(kind: str, rows: int) -> tuple[Any, Sequence[Any]]:
    """A maker, and its columns for drawn rows."""
    pick = DRAW.choice
    if kind == "labels":
        return lambda *both: labels.marks(*both, "abc"), [list(map(str, pick(list("abc"), rows))) for _ in "tp"]
    if kind == "label lists":
        each = [[list(map(str, pick(list("abc"), n, replace=False))) for n in DRAW.integers(0, 4, rows)] for _ in "tp"]
        return lambda *both: labels.marks_of_sets(*both, "abc"), each
    if kind == "entities":
        lengths = DRAW.integers(1, 8, rows)
        each = [[list(map(str, pick(TAGS, n))) for n in lengths] for _ in "tp"]
        return lambda *both: entities.marks(*both, TAGS), each
    if kind == "numbers":
        return numbers.marks, [list(DRAW.integers(0, 5, rows)) for _ in "tp"]
    if kind == "likelihood":
        return likelihood.marks, [list(DRAW.integers(1, 9, rows)) for _ in range(4)]
    if kind == "auc":
        return ranking.marks, [list(DRAW.integers(0, 3, rows)) for _ in "tp"]
    if kind == "lists":
        return ranking.lists, [[DRAW.integers(0, 3, 6) for _ in range(rows)] for _ in "tp"]
    maker = answers.marks if kind == "answers" else generation.marks
    return maker, [[sentence() for _ in range(rows)] for _ in "tp"]


KINDS = {
    "labels": counts.METRICS,
    "label lists": counts.SETS,
    "entities": counts.ENTITIES,
    "numbers": numbers.METRICS,
    "likelihood": likelihood.METRICS,
    "auc": ("auc",),
    "lists": ranking.OF_GROUPS,
    "answers": answers.METRICS,
    "generation": generation.METRICS,
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_resample_scores_as_if_its_rows_had_been_repeated(kind: str) -> None:
    maker, columns = made(kind, 30)
    marks: Marks = maker(*columns)
    weights = np.concatenate(list(intervals.resamples(30, 3, seed=1)))
    for metric in KINDS[kind]:
        found = marks.score(metric, weights)
        assert found.shape == (3,)
        for value, drawn in zip(found, weights.astype(int), strict=True):
            again = maker(*([each for each, n in zip(one, drawn, strict=True) for _ in range(n)] for one in columns))
            assert value == pytest.approx(float(again.score(metric)), abs=1e-12), metric


@pytest.mark.parametrize("kind", KINDS)
def test_a_slice_scores_as_its_rows_alone(kind: str) -> None:
    maker, columns = made(kind, 30)
    kept = DRAW.random(30) < 0.5
    some = ([each for each, keep in zip(one, kept, strict=True) if keep] for one in columns)
    part, alone = maker(*columns).at(kept), maker(*some)
    assert len(part) == len(alone) == kept.sum()
    for metric in KINDS[kind]:
        assert part.score(metric).shape == ()
        assert float(part.score(metric)) == pytest.approx(float(alone.score(metric)), abs=1e-12)


def test_a_resample_of_grouped_rows_is_one_of_whole_groups() -> None:
    marks = ranking.marks([1, 0, 0, 1], [0.9, 0.1, 0.9, 0.1], ["found", "found", "lost", "lost"])
    weights = np.array([[3.0, 0, 1, 0], [0, 2, 2, 0], [0, 2, 0, 2]])
    assert marks.score("hit_1", weights) == pytest.approx([3 / 4, 0, 0])


@pytest.mark.parametrize(("kind", "metric"), [("numbers", "spearman"), ("auc", "auc"), ("generation", "bleu")])
def test_thousands_of_resamples_take_seconds(kind: str, metric: str) -> None:
    maker, columns = made(kind, 1500)
    marks = maker(*columns)
    began = time.process_time()
    low, high = intervals.of_one(marks, metric, 0.95, 2000, 0)
    assert time.process_time() - began < 5
    assert low < float(marks.score(metric)) < high


def test_the_interval_of_a_share_is_that_of_the_normal_distribution() -> None:
    right = ["a"] * 800 + ["b"] * 200
    marks = labels.marks(["a"] * 1000, right, "ab")
    low, high = intervals.of_one(marks, "accuracy", 0.95, 2000, 0)
    width = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == pytest.approx((0.8 - width, 0.8 + width), abs=0.003)
    narrow = intervals.of_one(marks, "accuracy", 0.5, 2000, 0)
    assert low < narrow[0] < 0.8 < narrow[1] < high


def test_a_loss_that_falls_is_a_gain() -> None:
    assert gain("loss", np.array(1.0), np.array(3.0)) == 2
    assert gain("accuracy", np.array(0.75), np.array(0.5)) == 0.25
    before, after = (likelihood.marks([n * 5.0] * 9, [5] * 9, [0] * 9, [9] * 9) for n in (3, 1))
    assert intervals.of_gain(before, after, "loss", 0.95, 200, 0) == pytest.approx((2, 2))
    assert set(KINDS["likelihood"]) - LOWER == {"token_accuracy"}
    assert set(KINDS["numbers"]) & LOWER == {"mse", "mae"}


def test_names_are_read_without_the_libraries_that_compute() -> None:
    modules = "answers, generation, intervals, likelihood, numbers, ranking"
    heavy = {"scipy", "sklearn", "seqeval", "sacrebleu", "rouge_score", "nltk", "torch", "tasks.recipe", "tasks.data"}
    script = f"import sys; from tasks.metrics import {modules}; print(sorted({heavy!r} & set(sys.modules)))"
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")
def test_the_mean_over_rows_of_sets_is_sklearns() -> None:
    _, (truth, predicted) = made("label lists", 60)
    hot = ([[name in row for name in "abc"] for row in side] for side in (truth, predicted))
    found = labels.marks_of_sets(truth, predicted, "abc").score("samples_f1")
    assert float(found) == pytest.approx(f1_score(*map(np.array, hot), average="samples", zero_division=0))


def test_a_score_that_is_no_number_breaks_its_floor() -> None:
    broken = likelihood.marks([float("nan")], [1], [0], [1])
    assert gate.broken_floors(broken, Gate(floors={"loss": 1.0})) == ["loss is nan > 1"]
