"""Numbers against numbers: how far off, and whether in the same order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from tasks.metrics.marks import Floats

METRICS = ("spearman", "pearson", "mse", "mae", "r2")


@dataclass(frozen=True)
class Numbers:
    """A true number and an answer for each row."""

    truth: Floats
    answers: Floats

    def __len__(self) -> int:
        return len(self.truth)

    def at(self, rows: npt.NDArray[np.bool_]) -> "Numbers":
        return Numbers(self.truth[rows], self.answers[rows])

    def per_class(self, kind: str) -> dict[str, float]:
        return {}

    def score(self, metric: str, weights: Floats | None = None) -> Floats:
        """In score points of the metric; correlations in -1..1, and 0 where one side does not vary."""
        if metric not in METRICS:
            raise ValueError(f"{metric!r} is no metric of {', '.join(METRICS)}")
        drawn = np.ones((1, len(self))) if weights is None else weights
        found = np.array(getattr(self, f"_{metric}")(drawn))
        return found[0] if weights is None else found

    def _pearson(self, weights: Floats) -> Floats:
        return _correlation(self.truth, self.answers, weights)

    def _spearman(self, weights: Floats) -> Floats:
        """Pearson of the ranks, equal values sharing the mean of theirs (Spearman 1904)."""
        return np.array([_correlation(_ranks(self.truth, w), _ranks(self.answers, w), w[None])[0] for w in weights])

    def _mse(self, weights: Floats) -> Floats:
        return np.asarray(weights @ (self.answers - self.truth) ** 2 / weights.sum(-1))

    def _mae(self, weights: Floats) -> Floats:
        return np.asarray(weights @ np.abs(self.answers - self.truth) / weights.sum(-1))

    def _r2(self, weights: Floats) -> Floats:
        """1 - squared errors / squared distances from the mean."""
        share = weights / weights.sum(-1, keepdims=True)
        spread = share @ self.truth**2 - (share @ self.truth) ** 2
        off = share @ (self.answers - self.truth) ** 2
        return np.asarray(1 - np.divide(off, spread, out=np.ones_like(off), where=spread > 0))


def marks(truth: Sequence[float], answers: Sequence[float]) -> Numbers:
    """What numbers earn."""
    return Numbers(np.asarray(truth, np.float64), np.asarray(answers, np.float64))


def _ranks(values: Floats, weights: Floats) -> Floats:
    """The mean rank of each value among rows that stand `weights` times each."""
    place = rankdata(values, method="dense").astype(int) - 1
    held = np.bincount(place, weights)
    return np.asarray((np.cumsum(held) - (held - 1) / 2)[place])


def _correlation(one: Floats, other: Floats, weights: Floats) -> Floats:
    """(draws,)"""
    share = weights / weights.sum(-1, keepdims=True)
    means = share @ one, share @ other
    both = share @ (one * other) - means[0] * means[1]
    spreads = [share @ side**2 - mean**2 for side, mean in zip((one, other), means, strict=True)]
    scale = np.sqrt(np.maximum(0, spreads[0] * spreads[1]))
    return np.asarray(np.divide(both, scale, out=np.zeros_like(both), where=scale > 1e-12))
