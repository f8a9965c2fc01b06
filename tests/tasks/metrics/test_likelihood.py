"""Perplexity and its kin, by hand."""

import numpy as np
import pytest

from tasks.metrics import likelihood
from tests.tasks.metrics.scores import scores


def test_a_model_that_guesses_among_eight_has_perplexity_eight() -> None:
    tokens = np.array([4, 10])
    marks = likelihood.marks(np.log(8) * tokens, tokens, [1, 0], 3 * tokens)
    assert scores(marks, likelihood.METRICS) == pytest.approx(
        {"perplexity": 8, "loss": np.log(8), "bits_per_character": 1, "token_accuracy": 1 / 14}
    )


def test_long_rows_weigh_more() -> None:
    marks = likelihood.marks([1.0, 18.0], [1, 9], [1, 0], [1, 9])
    assert float(marks.score("loss")) == 1.9  # 19 nats over 10 tokens; the mean of the rows would be 1.5
    assert float(marks.score("perplexity")) == pytest.approx(np.exp(1.9))


def test_rows_without_tokens_lose_nothing() -> None:
    assert float(likelihood.marks([0.0], [0], [0], [0]).score("loss")) == 0
