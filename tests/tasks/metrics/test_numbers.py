"""Correlations and errors that equal those of scipy and sklearn, resamples included."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from tasks.metrics import intervals, numbers

VALUES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=3, max_size=30)


@examples(max_examples=100, deadline=None)
@given(pairs=VALUES)
def test_every_score_is_that_of_the_libraries_ties_included(pairs: list[tuple[int, int]]) -> None:
    truth, answers = (np.array(side, float) for side in zip(*pairs, strict=True))
    found = numbers.marks(truth, answers)
    assert float(found.score("mse")) == pytest.approx(sklearn.mean_squared_error(truth, answers))
    assert float(found.score("mae")) == pytest.approx(sklearn.mean_absolute_error(truth, answers))
    if np.ptp(truth) and np.ptp(answers):
        assert float(found.score("pearson")) == pytest.approx(stats.pearsonr(truth, answers)[0])
        assert float(found.score("spearman")) == pytest.approx(stats.spearmanr(truth, answers)[0])
        assert float(found.score("r2")) == pytest.approx(sklearn.r2_score(truth, answers))


@pytest.mark.parametrize("metric", numbers.METRICS)
def test_a_resample_has_the_score_of_its_rows_repeated(metric: str) -> None:
    draw = np.random.default_rng(0)
    truth, answers = draw.integers(0, 6, 40).astype(float), draw.normal(size=40)
    picked = draw.integers(0, 40, 40)
    weights = np.bincount(picked, minlength=40).astype(float)
    found = numbers.marks(truth, answers).score(metric, weights[None])[0]
    assert found == pytest.approx(float(numbers.marks(truth[picked], answers[picked]).score(metric)))


def test_what_never_varies_correlates_with_nothing() -> None:
    assert float(numbers.marks([1, 2, 3], [2, 2, 2]).score("spearman")) == 0


def test_an_interval_of_the_rank_correlation_of_1500_rows_takes_seconds() -> None:
    draw = np.random.default_rng(0)
    truth = draw.normal(size=1500)
    found = numbers.marks(truth, truth + draw.normal(size=1500))
    began = time.process_time()
    low, high = intervals.of_one(found, "spearman", 0.95, 2000, 0)
    assert low < float(found.score("spearman")) < high
    assert time.process_time() - began < 20
