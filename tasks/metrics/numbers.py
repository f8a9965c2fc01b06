"""Rows whose answer is a number: the metrics are scipy's and sklearn's.

A correlation with numbers that are all the same is 0: a constant tells nothing. `qwk` is Cohen's kappa with quadratic
weights (Cohen 1968) of both sides rounded to whole scores. Its table of chances is never made: the expected
disagreement of independent scores is E(t - p)² = E t² + E p² - 2 E t E p.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from tasks.metrics.columns import Columns, Weighted, ranks
from tasks.metrics.marks import Floats
from tasks.metrics.sums import ratio

METRICS = ("pearson", "spearman", "r2", "qwk", "mse", "mae")
ROUNDING = 1e-28  # of a sum of squares; a double has 16 digits


def marks(truth: npt.ArrayLike, predicted: npt.ArrayLike) -> Columns:
    """The marks of numbers, each (rows,)."""
    columns = {"truth": np.asarray(truth, np.float64), "predicted": np.asarray(predicted, np.float64)}
    if columns["truth"].shape != columns["predicted"].shape:
        raise ValueError(f"{columns['truth'].shape} numbers are true and {columns['predicted'].shape} predicted")
    return Columns(columns, FORMULAS)


def _pearson(of: Mapping[str, Floats], weights: Floats) -> Floats:
    return correlation(of["truth"], of["predicted"], weights)


def _spearman(of: Mapping[str, Floats], weights: Floats) -> Floats:
    return correlation(ranks(of["truth"], weights), ranks(of["predicted"], weights), weights)


def correlation(one: Floats, other: Floats, weights: Floats) -> Floats:
    """Pearson's r of two columns, (rows,) or (draws, rows), in each resample."""
    (a, of_a), (b, of_b) = (_centred(each, weights) for each in (one, other))
    return ratio((weights * a * b).sum(-1), np.sqrt(of_a * of_b))


def _r2(of: Mapping[str, Floats], weights: Floats) -> Floats:
    """1 - residual / spread; of a truth that never varies 1 if it is met and else 0, as in sklearn."""
    residual = weights @ (of["truth"] - of["predicted"]) ** 2
    _, spread = _centred(of["truth"], weights)
    return np.where(spread > 0, 1 - ratio(residual, spread), residual == 0).astype(np.float64)


def _qwk(of: Mapping[str, Floats], weights: Floats) -> Floats:
    """In whole numbers until the last division, so that agreement and chance come out exact."""
    true, guess = np.rint(of["truth"]), np.rint(of["predicted"])
    chance = weights.sum(-1) * (weights @ (true**2 + guess**2)) - 2 * (weights @ true) * (weights @ guess)
    return 1 - ratio(weights.sum(-1) * (weights @ (true - guess) ** 2), chance)


def _mse(of: Mapping[str, Floats], weights: Floats) -> Floats:
    return _mean((of["truth"] - of["predicted"]) ** 2, weights)


def _mae(of: Mapping[str, Floats], weights: Floats) -> Floats:
    return _mean(np.abs(of["truth"] - of["predicted"]), weights)


def _centred(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """The distances from the mean, and their sum of squares: 0 where it is no more than a rounding error."""
    centred = values - _mean(values, weights)[:, None]
    squares = (weights * centred**2).sum(-1)
    return centred, np.where(squares > ROUNDING * (weights * values**2).sum(-1), squares, 0.0)


def _mean(values: Floats, weights: Floats) -> Floats:
    return ratio((weights * values).sum(-1), weights.sum(-1))


FORMULAS: dict[str, Weighted] = {
    "pearson": _pearson,
    "spearman": _spearman,
    "r2": _r2,
    "qwk": _qwk,
    "mse": _mse,
    "mae": _mae,
}
