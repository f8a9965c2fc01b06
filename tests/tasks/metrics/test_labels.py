"""Numbers that equal those of sklearn and seqeval, and of a pencil."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from seqeval import metrics as seqeval
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from tasks.metrics import calibration as metrics
from tasks.metrics import entities, labels
from tasks.metrics.counts import ENTITIES, METRICS, Counts
from tests.tasks.metrics.scores import scores

CLASSES = ("ant", "bee", "cat", "dog", "eel")
TAGS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
KINDS = ("precision", "recall", "f1")
PAIRS = st.lists(st.tuples(st.sampled_from(CLASSES[:4]), st.sampled_from(CLASSES[1:])), min_size=1, max_size=40)
ROWS = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=12), min_size=1, max_size=12
)


def of_texts(truth: list[str], predicted: list[str], classes: tuple[str, ...] = CLASSES) -> Counts:
    return labels.marks(truth, predicted, classes)


def of_words(truth: list[list[str]], predicted: list[list[str]], tags: tuple[str, ...] = TAGS) -> Counts:
    return entities.marks(truth, predicted, tags)


@examples(max_examples=150, deadline=None)
@given(pairs=PAIRS)
def test_every_score_of_texts_equals_sklearns_absent_classes_included(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = map(list, zip(*pairs, strict=True))
    found = scores(of_texts(truth, predicted), METRICS)
    assert set(found) == set(METRICS)
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted))
    for mean in ("macro", "micro", "weighted"):
        theirs = precision_recall_fscore_support(truth, predicted, average=mean, zero_division=0)
        assert [found[f"{mean}_{kind}"] for kind in KINDS] == pytest.approx(theirs[:3])


@examples(max_examples=50, deadline=None)
@given(pairs=PAIRS)
def test_every_class_has_sklearns_scores_and_those_never_seen_have_none(pairs: list[tuple[str, str]]) -> None:
    truth, predicted = map(list, zip(*pairs, strict=True))
    seen = sorted({*truth, *predicted})
    theirs = precision_recall_fscore_support(truth, predicted, labels=seen, zero_division=0)
    for kind, values in zip(KINDS, theirs[:3], strict=True):
        assert of_texts(truth, predicted).per_class(kind) == pytest.approx(dict(zip(seen, values, strict=True)))


def test_a_case_on_paper() -> None:
    counts = of_texts(["ant", "ant", "bee", "bee", "bee"], ["ant", "bee", "bee", "bee", "cat"])
    # ant: precision 1/1, recall 1/2; bee: 2/3, 2/3; cat: 0/1, 0/0 = 0
    assert scores(counts, METRICS) == pytest.approx(
        {
            "accuracy": 3 / 5,
            "macro_precision": (1 + 2 / 3 + 0) / 3,
            "macro_recall": (1 / 2 + 2 / 3 + 0) / 3,
            "macro_f1": (2 / 3 + 2 / 3 + 0) / 3,
            "micro_precision": 3 / 5,
            "micro_recall": 3 / 5,
            "micro_f1": 3 / 5,
            "weighted_precision": (2 * 1 + 3 * 2 / 3) / 5,
            "weighted_recall": 3 / 5,
            "weighted_f1": (2 * 2 / 3 + 3 * 2 / 3) / 5,
        }
    )


def test_an_answer_outside_the_classes_is_wrong_and_belongs_to_no_class() -> None:
    counts = of_texts(["ant", "ant"], ["ant", "wolf"], ("ant", "bee"))
    assert scores(counts, METRICS)["accuracy"] == 0.5
    assert counts.per_class("precision") == {"ant": 1.0}
    assert counts.per_class("recall") == {"ant": 0.5}


@examples(max_examples=150, deadline=None)
@given(rows=ROWS)
def test_every_score_of_entities_equals_seqevals(rows: list[list[tuple[str, str]]]) -> None:
    truth, predicted = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    found = scores(of_words(truth, predicted), ENTITIES)
    assert found == pytest.approx(
        {
            "entity_precision": seqeval.precision_score(truth, predicted, zero_division=0),
            "entity_recall": seqeval.recall_score(truth, predicted, zero_division=0),
            "entity_f1": seqeval.f1_score(truth, predicted, zero_division=0),
            "accuracy": seqeval.accuracy_score(truth, predicted),
        }
    )


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # seqeval's, of rows without an entity
@examples(max_examples=50, deadline=None)
@given(rows=ROWS)
def test_every_kind_of_entity_has_seqevals_scores(rows: list[list[tuple[str, str]]]) -> None:
    truth, predicted = ([[pair[side] for pair in row] for row in rows] for side in (0, 1))
    theirs: dict[str, Any] = seqeval.classification_report(truth, predicted, output_dict=True, zero_division=0)
    kinds = {name: values["f1-score"] for name, values in theirs.items() if name in ("LOC", "PER")}
    assert of_words(truth, predicted).per_class("f1") == pytest.approx(kinds)


def test_an_entity_counts_only_whole_and_with_its_type() -> None:
    truth = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-LOC"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["O", "B-PER"]]
    # 3 true, 3 found, 1 right (the first LOC); 4 of 6 words
    found = scores(of_words(truth, predicted), ENTITIES)
    assert found == pytest.approx(
        {"entity_precision": 1 / 3, "entity_recall": 1 / 3, "entity_f1": 1 / 3, "accuracy": 4 / 6}
    )


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        (["B-A", "I-A", "O", "B-A"], {("A", 0, 1), ("A", 3, 3)}),
        (["I-A", "I-A", "I-B"], {("A", 0, 1), ("B", 2, 2)}),
        (["B-A", "B-A"], {("A", 0, 0), ("A", 1, 1)}),
        (["S-A", "S-A", "B-B", "E-B"], {("A", 0, 0), ("A", 1, 1), ("B", 2, 3)}),
        (["U-A", "U-A", "B-B", "I-B", "L-B", "I-B"], {("A", 0, 0), ("A", 1, 1), ("B", 2, 4), ("B", 5, 5)}),
        (["O", "O"], set()),
        (["NOUN", "VERB", "O"], {("NOUN", 0, 0), ("VERB", 1, 1)}),
    ],
)
def test_entities_of_every_way_to_write_tags(tags: list[str], found: set[Any]) -> None:
    assert entities.spans(tags) == found


def test_the_classes_of_tags_are_their_types() -> None:
    assert entities.entity_types(("O", "B-PER", "I-PER", "I-LOC", "U-ORG")) == ("LOC", "ORG", "PER")


def test_a_resample_is_a_weighted_sum_of_rows() -> None:
    truth, predicted = ["ant", "bee", "cat", "cat"], ["ant", "cat", "cat", "bee"]
    picked = [0, 0, 2, 3, 3]
    weights = np.bincount(picked, minlength=4).astype(float)
    found = of_texts(truth, predicted)
    again = of_texts([truth[row] for row in picked], [predicted[row] for row in picked])
    for name in METRICS:
        assert found.score(name, weights[None])[0] == pytest.approx(float(again.score(name)))


@pytest.mark.parametrize("name", ["f1", "macro_f2", "recal", "entity", "geometric_f1", ""])
def test_a_metric_that_nobody_knows_is_no_other_metric(name: str) -> None:
    with pytest.raises(ValueError, match="no metric"):
        of_texts(["ant"], ["ant"]).score(name)


def test_calibration_on_paper() -> None:
    confidence = np.array([0.95, 0.85, 0.85, 0.15, 1.0])
    right = np.array([True, True, False, True, True])
    found = metrics.calibration(confidence, right, bins=10)
    # bins: 0.15 right; 0.85 twice, half right; 0.95 and 1.0 both right
    assert found["bins"] == [
        {"confidence": pytest.approx(0.15), "accuracy": 1.0, "rows": 1},
        {"confidence": pytest.approx(0.85), "accuracy": 0.5, "rows": 2},
        {"confidence": pytest.approx(0.975), "accuracy": 1.0, "rows": 2},
    ]
    assert found["ece"] == pytest.approx((1 * 0.85 + 2 * 0.35 + 2 * 0.025) / 5)


def test_a_model_that_is_right_as_often_as_it_says_has_no_calibration_error() -> None:
    draw = np.random.default_rng(0)
    confidence = draw.uniform(0.3, 1, 200_000)
    honest = draw.random(200_000) < confidence
    assert metrics.calibration(confidence, honest)["ece"] < 0.005
    assert metrics.calibration(np.minimum(1, confidence + 0.2), honest)["ece"] > 0.15


def test_every_row_is_in_one_bin() -> None:
    edges = np.linspace(0, 1, 16)
    found = metrics.calibration(edges, np.ones(16, bool))
    assert sum(each["rows"] for each in found["bins"]) == 16
    assert len(found["bins"]) == 15


SETS = st.lists(st.tuples(st.sets(st.sampled_from("abc")), st.sets(st.sampled_from("abc"))), min_size=1, max_size=20)


@examples(max_examples=100, deadline=None)
@given(pairs=SETS)
def test_sets_of_labels_have_sklearns_scores(pairs: list[tuple[set[str], set[str]]]) -> None:
    truth, predicted = ([sorted(pair[side]) for pair in pairs] for side in (0, 1))
    hot = [[[name in each for name in "abc"] for each in side] for side in (truth, predicted)]
    found = labels.marks_of_sets(truth, predicted, tuple("abc"))
    assert float(found.score("accuracy")) == pytest.approx(accuracy_score(*map(np.array, hot)))
    for mean in ("micro", "weighted"):
        theirs = precision_recall_fscore_support(*map(np.array, hot), average=mean, zero_division=0)
        assert [float(found.score(f"{mean}_{kind}")) for kind in KINDS] == pytest.approx(theirs[:3])
