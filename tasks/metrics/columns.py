"""Marks whose metrics are no functions of sums (ranks, areas): they are computed again on every resample.

A resample is not made: how often each row was drawn is its weight, and the formulas take weights of many resamples at
once: 0.3 s of CPU for Spearman's correlation in 2,000 resamples of 1,500 rows.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.metrics.marks import Floats
from tasks.metrics.sums import formula

Weighted = Callable[[Mapping[str, Floats], Floats], Floats]

CHUNK = 1_000_000  # weights computed at once; a formula holds some arrays of 8 bytes each


@dataclass(frozen=True)
class Columns:
    """Named numbers of each row, (rows,)."""

    columns: Mapping[str, Floats]
    formulas: Mapping[str, Weighted]  # columns, and weights (draws, rows) -> (draws,)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def score(self, metric: str, weights: Floats | None = None) -> Floats:
        computed = formula(self.formulas, metric)
        if weights is None:
            return np.asarray(computed(self.columns, np.ones((1, len(self))))[0])
        step = max(1, CHUNK // max(1, len(self)))
        parts = [computed(self.columns, weights[at : at + step]) for at in range(0, len(weights), step)]
        return np.concatenate(parts)

    @property
    def support(self) -> dict[str, int]:
        return {}

    @property
    def signatures(self) -> Mapping[str, str]:
        return {}

    def per_class(self, kind: str) -> dict[str, float]:
        return {}

    def at(self, rows: npt.NDArray[np.bool_]) -> "Columns":
        return Columns({name: column[rows] for name, column in self.columns.items()}, self.formulas)


def ranks(values: Floats, weights: Floats) -> Floats:
    """The rank of each row among all that were drawn, from 1; rows that tie share the mean of their ranks.

    Args:
        values: (rows,)
        weights: (draws, rows) how often each row was drawn.

    Returns:
        (draws, rows); of a row that was not drawn, the rank means nothing.
    """
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.diff(values[order], prepend=np.nan) != 0)
    tied = np.add.reduceat(weights[:, order], starts, axis=1)
    each = np.cumsum(tied, axis=1) - (tied - 1) / 2
    place = np.empty(len(values), np.int64)
    place[order] = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(values)))
    return np.asarray(each[:, place])
