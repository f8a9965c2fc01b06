"""Correlations and errors are scipy's and sklearn's, ties and constants included."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import cohen_kappa_score, mean_absolute_error, mean_squared_error, r2_score

from tasks.metrics import intervals, numbers
from tests.tasks.metrics.scores import scores

SCORES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=40)


@examples(max_examples=150, deadline=None)
@given(pairs=SCORES)
def test_every_score_equals_scipys_and_sklearns(pairs: list[tuple[int, int]]) -> None:
    truth, predicted = (np.array(side, float) for side in zip(*pairs, strict=True))
    found = scores(numbers.marks(truth, predicted), numbers.METRICS)
    assert found["mse"] == pytest.approx(mean_squared_error(truth, predicted))
    assert found["mae"] == pytest.approx(mean_absolute_error(truth, predicted))
    assert found["r2"] == pytest.approx(r2_score(truth, predicted))
    if np.ptp(truth) and np.ptp(predicted):
        assert found["pearson"] == pytest.approx(pearsonr(truth, predicted).statistic, abs=1e-12)
        assert found["spearman"] == pytest.approx(spearmanr(truth, predicted).statistic, abs=1e-12)
    if np.ptp([*truth, *predicted]):
        theirs = cohen_kappa_score(truth.astype(int), predicted.astype(int), labels=range(6), weights="quadratic")
        assert found["qwk"] == pytest.approx(theirs, abs=1e-12)


def test_a_constant_tells_nothing() -> None:
    found = scores(numbers.marks([1, 2, 3], [2, 2, 2]), numbers.METRICS)
    assert (found["pearson"], found["spearman"], found["qwk"], found["r2"]) == (0, 0, 0, 0)
    assert (found["mse"], found["mae"]) == pytest.approx((2 / 3, 2 / 3))
    tenths = scores(numbers.marks([0.1] * 3, [0.7] * 3), numbers.METRICS)  # whose mean is not quite 0.1
    assert (tenths["pearson"], tenths["spearman"], tenths["r2"]) == (0, 0, 0)


def test_correlations_do_not_mind_numbers_far_from_zero() -> None:
    truth = np.array([1.0, 2.0, 3.0, 5.0]) + 1e9
    assert float(numbers.marks(truth, [1.0, 2.0, 4.0, 4.0]).score("pearson")) == pytest.approx(
        pearsonr([1, 2, 3, 5], [1, 2, 4, 4]).statistic
    )


def test_kappa_rounds_to_whole_scores() -> None:
    assert float(numbers.marks([1, 2, 3], [1.4, 1.6, 3.2]).score("qwk")) == 1.0


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted"):
        numbers.marks([1.0], [1.0, 2.0])


def test_an_interval_of_the_rank_correlation_of_1500_rows_takes_seconds() -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(size=1500)
    found = numbers.marks(truth, truth + draw.normal(size=1500))
    began = time.process_time()
    low, high = intervals.of_one(found, "spearman", 0.95, 2000, 0)
    assert low < float(found.score("spearman")) < high
    assert time.process_time() - began < 20
