"""Ranks of rows that were drawn several times, or never."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from scipy.stats import rankdata

from tasks.metrics.columns import ranks


@examples(max_examples=60, deadline=None)
@given(values=st.lists(st.integers(0, 4), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_ranks_of_weighted_rows_are_those_of_repeated_rows(values: list[int], seed: int) -> None:
    weights = np.random.default_rng(seed).integers(0, 3, len(values))
    found = ranks(np.array(values, float), weights[None].astype(float))[0]
    assert np.repeat(found, weights) == pytest.approx(rankdata(np.repeat(values, weights)))
