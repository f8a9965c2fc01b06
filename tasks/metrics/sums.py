"""Marks whose metrics are functions of sums over rows: a resample of the rows is then a weighted sum of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.metrics.marks import Floats

Formula = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Sums:
    """For each row, what the formulas need to be summed."""

    table: Floats  # (rows, k)
    formulas: Mapping[str, Formula]  # (..., k) sums -> (...)
    signatures: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.table)

    def score(self, metric: str, weights: Floats | None = None) -> Floats:
        sums = self.table.sum(axis=0) if weights is None else weights @ self.table
        return np.asarray(formula(self.formulas, metric)(sums))

    @property
    def support(self) -> dict[str, int]:
        return {}

    def per_class(self, kind: str) -> dict[str, float]:
        return {}

    def at(self, rows: npt.NDArray[np.bool_]) -> "Sums":
        return replace(self, table=self.table[rows])


def formula(known: Mapping[str, Any], metric: str) -> Any:
    """How a metric is computed, or ValueError."""
    if metric not in known:
        raise ValueError(f"{metric!r} is no metric of {', '.join(known)}")
    return known[metric]


def ratio(part: Floats, whole: Floats) -> Floats:
    """One over the other, of any shape; 0 where there is nothing to divide by."""
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.zeros(whole.shape), where=whole > 0)


def quotient(part: int, whole: int) -> Formula:
    """One column's sum over another's."""
    return lambda sums: ratio(sums[..., part], sums[..., whole])


def mean(values: npt.ArrayLike) -> tuple[Floats, Formula]:
    """Columns and formula of a metric that is the mean of a number for each row."""
    column = np.asarray(values, np.float64)
    return np.stack([column, np.ones_like(column)], axis=1), quotient(0, 1)


def beside(parts: Mapping[str, tuple[Floats, Formula]], signatures: Mapping[str, str] | None = None) -> Sums:
    """Marks of metrics that each have columns of their own."""
    formulas: dict[str, Formula] = {}
    end = 0
    for name, (columns, computed) in parts.items():
        start, end = end, end + columns.shape[1]
        formulas[name] = partial(_of_part, computed, slice(start, end))
    return Sums(np.concatenate([columns for columns, _ in parts.values()], axis=1), formulas, signatures or {})


def _of_part(computed: Formula, part: slice, sums: Floats) -> Floats:
    return computed(sums[..., part])
