"""The gate's verdicts: proved better goes live, anything less does not."""

import time
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.stats import bootstrap

from tasks.metrics import intervals, labels
from tasks.metrics.counts import Counts
from tasks.recipe import Gate
from tasks.release import gate

Bools = npt.NDArray[np.bool_]
PAIRS = st.lists(
    st.tuples(st.sampled_from("ab"), st.sampled_from("abc"), st.sampled_from("abc")), min_size=2, max_size=60
)


def counts(truth: list[str], predicted: list[str]) -> Counts:
    return labels.marks(truth, predicted, tuple(sorted({*truth, "a", "b", "c"})))


def answers(right: Bools) -> Counts:
    """A model that is right where `right` says so, over two labels of equal share."""
    truth = ["a", "b"] * (len(right) // 2)
    other = {"a": "b", "b": "a"}
    return counts(truth, [true if fine else other[true] for true, fine in zip(truth, right, strict=True)])


def right_but(wrong: int, rows: int = 1000, seed: int = 0) -> Bools:
    """Which rows are right, of which `wrong` drawn ones are not."""
    right = np.ones(rows, bool)
    right[np.random.default_rng(seed).permutation(rows)[:wrong]] = False
    return right


def dials(**changed: Any) -> Gate:
    return Gate.model_validate(changed)


@pytest.mark.parametrize("seed", range(5))
def test_two_points_more_are_not_proved_when_the_errors_are_independent(seed: int) -> None:
    champion, challenger = np.ones(1000, bool), np.ones(1000, bool)
    champion[:100] = challenger[92:172] = False  # 8 errors in common: as many as chance gives
    found = gate.judge(answers(champion), answers(challenger), "accuracy", dials(seed=seed))
    assert not found.promoted
    assert found.gain == pytest.approx(0.02)
    assert found.low == pytest.approx(-0.005, abs=0.0011)
    assert found.reasons[0].startswith("not proved better: accuracy +0.0200, 95 % interval [")


@pytest.mark.parametrize("seed", range(5))
def test_the_same_two_points_are_proved_when_the_challenger_only_mends(seed: int) -> None:
    champion, mended = np.ones(1000, bool), np.ones(1000, bool)
    champion[:100] = mended[20:100] = False
    found = gate.judge(answers(champion), answers(mended), "accuracy", dials(seed=seed))
    assert found.promoted
    assert found.gain == pytest.approx(0.02)
    assert found.low == pytest.approx(0.012, abs=0.0011)
    assert found.reasons == (f"proved better: accuracy +0.0200, {interval(found)} on 1000 rows",)


def interval(found: gate.Judgement) -> str:
    return f"95 % interval [{found.low:+.4f}, {found.high:+.4f}]"


@examples(max_examples=60, deadline=None)
@given(rows=PAIRS, metric=st.sampled_from(["accuracy", "macro_f1", "weighted_f1"]))
def test_champion_and_challenger_change_places_with_the_sign(rows: list[tuple[str, str, str]], metric: str) -> None:
    truth, one, other = (list(column) for column in zip(*rows, strict=True))
    a, b = counts(truth, one), counts(truth, other)
    there, back = (gate.judge(*pair, metric, dials(draws=200)) for pair in ((a, b), (b, a)))
    assert (there.gain, there.low, there.high) == pytest.approx((-back.gain, -back.high, -back.low))
    assert not (there.promoted and back.promoted)


def test_the_seed_and_nothing_else_decides_the_draws() -> None:
    a, b = answers(right_but(100)), answers(right_but(80, seed=1))
    first = intervals.resampled(a, b, "macro_f1", 300, seed=4)
    np.random.seed(1)  # another's generator must not matter
    assert np.array_equal(first, intervals.resampled(a, b, "macro_f1", 300, seed=4))
    assert not np.array_equal(first, intervals.resampled(a, b, "macro_f1", 300, seed=5))
    assert len(first) == 300


def test_a_model_is_not_better_than_itself() -> None:
    same = answers(right_but(100))
    found = gate.judge(same, same, "accuracy", dials())
    assert (found.promoted, found.gain, found.low, found.high) == (False, 0.0, 0.0, 0.0)
    assert gate.judge(same, same, "accuracy", dials(margin=0.001)).promoted


def test_a_loss_within_the_margin_is_let_through_and_called_that() -> None:
    champion, challenger = answers(right_but(80)), answers(right_but(85))
    refused, passed = (gate.judge(champion, challenger, "accuracy", dials(margin=each)) for each in (0.0, 0.02))
    assert (refused.promoted, passed.promoted) == (False, True)
    assert passed.gain == pytest.approx(-0.005)
    assert passed.reasons[0].startswith("not worse than the margin of 0.02")


def test_more_confidence_asks_for_more_proof() -> None:
    champion, challenger = answers(right_but(100)), answers(right_but(76, seed=1))
    assert gate.judge(champion, challenger, "accuracy", dials(confidence=0.8)).promoted
    assert not gate.judge(champion, challenger, "accuracy", dials(confidence=0.999)).promoted


def test_the_first_model_goes_live_unless_a_floor_is_broken() -> None:
    first = answers(right_but(100))
    found = gate.judge(None, first, "accuracy", dials(floors={"accuracy": 0.9}))
    assert found == gate.Judgement(True, None, None, None, ("there is no champion yet",))
    found = gate.judge(None, first, "accuracy", dials(floors={"accuracy": 0.901}))
    assert not found.promoted
    assert found.reasons == ("accuracy is 0.9000 < 0.901",)


def test_a_floor_stops_even_a_better_challenger() -> None:
    champion, mended = right_but(100), right_but(0)
    found = gate.judge(answers(champion), answers(mended), "accuracy", dials(floors={"accuracy": 1.0}))
    assert found.promoted
    found = gate.judge(answers(right_but(300)), answers(champion), "accuracy", dials(floors={"accuracy": 0.95}))
    assert not found.promoted
    assert found.reasons[0].startswith("proved better")
    assert found.reasons[1] == "accuracy is 0.9000 < 0.95"


def test_a_floor_of_every_class_names_the_worst() -> None:
    truth = ["a"] * 10 + ["b"] * 10 + ["c"] * 10
    predicted = ["a"] * 10 + ["b"] * 4 + ["a"] * 6 + ["c"] * 3 + ["a"] * 7
    floors = {"recall_per_class": 0.5, "precision_per_class": 0.4, "f1_per_class": 0.2}
    found = gate.broken_floors(counts(truth, predicted), dials(floors=floors))
    assert found == ["recall_per_class of 'c' is 0.3000 < 0.5 (2 of 3 classes)"]


def test_models_that_sat_different_exams_are_not_compared() -> None:
    with pytest.raises(ValueError, match="different exams"):
        gate.judge(answers(right_but(1, rows=10)), answers(right_but(1, rows=12)), "accuracy", dials())


def test_the_interval_is_that_of_scipys_paired_bootstrap() -> None:
    champion, challenger = right_but(100), right_but(80, seed=1)
    ours = intervals.of_gain(answers(champion), answers(challenger), "accuracy", 0.95, 20_000, 0)
    theirs = bootstrap(
        (challenger.astype(float), champion.astype(float)),
        lambda one, other, axis: one.mean(axis) - other.mean(axis),
        paired=True,
        vectorized=True,
        n_resamples=20_000,
        method="percentile",
        batch=500,
        random_state=np.random.default_rng(0),
    ).confidence_interval
    assert ours == pytest.approx((theirs.low, theirs.high), abs=0.003)
    fewer = intervals.of_gain(answers(champion), answers(challenger), "accuracy", 0.95, 2000, 0)
    assert fewer == pytest.approx(ours, abs=0.003)


def test_a_proof_at_95_percent_is_wrong_about_once_in_forty() -> None:
    """Two models of the same quality: chance alone lets one through in 2.5 % of the exams."""
    draw = np.random.default_rng(0)
    passed = 0
    for _ in range(200):
        one, other = (answers(draw.random(400) < 0.85) for _ in range(2))
        passed += gate.judge(one, other, "accuracy", dials(draws=300)).promoted
    assert 1 <= passed <= 13  # 5 expected


def test_the_gate_of_77_classes_takes_seconds() -> None:
    draw = np.random.default_rng(0)
    classes = tuple(f"intent {n:02}" for n in range(77))
    truth = [classes[n % 77] for n in range(3080)]

    def model(quality: float) -> Counts:
        predicted = [true if draw.random() < quality else classes[draw.integers(77)] for true in truth]
        return labels.marks(truth, predicted, classes)

    champion, challenger = model(0.9), model(0.93)
    began = time.process_time()
    found = gate.judge(champion, challenger, "macro_f1", dials(draws=2000))
    assert time.process_time() - began < 3
    assert found.promoted
