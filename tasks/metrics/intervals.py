"""How far a metric, or the gain of one model over another, would move with other rows of the same kind.

A percentile bootstrap over rows (Efron 1979); two models are resampled in pairs, since they answered the same rows.
"""

from collections.abc import Iterator

import numpy as np

from tasks.metrics.marks import Floats, Marks, gain

CHUNK = 100  # resamples drawn at once; 8 bytes a row and resample


def of_one(marks: Marks, metric: str, confidence: float, draws: int, seed: int) -> tuple[float, float]:
    """The two-sided interval of a metric."""
    found = [marks.score(metric, weights) for weights in resamples(len(marks), draws, seed)]
    return _between(np.concatenate(found), confidence)


def of_gain(
    champion: Marks, challenger: Marks, metric: str, confidence: float, draws: int, seed: int
) -> tuple[float, float]:
    """The two-sided interval of the gain."""
    return _between(resampled(champion, challenger, metric, draws, seed), confidence)


def resampled(champion: Marks, challenger: Marks, metric: str, draws: int, seed: int) -> Floats:
    """The gain in each of `draws` resamples of the rows, (draws,)."""
    return np.concatenate(
        [
            gain(metric, challenger.score(metric, weights), champion.score(metric, weights))
            for weights in resamples(len(challenger), draws, seed)
        ]
    )


def resamples(rows: int, draws: int, seed: int) -> Iterator[Floats]:
    """How often each row is drawn, (at most CHUNK, rows) at a time."""
    random = np.random.default_rng(seed)
    for start in range(0, draws, CHUNK):
        picked = random.integers(0, rows, (min(CHUNK, draws - start), rows))
        yield np.stack([np.bincount(each, minlength=rows) for each in picked]).astype(np.float64)


def _between(values: Floats, confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
