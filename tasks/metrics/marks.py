"""What the rows of an exam earned, as exam and gate ask for it whatever the problem is.

A metric is in 0..1 and higher is better (BLEU too: sacreBLEU's number is 100 times ours), so that a margin of 0.01
means the same everywhere; correlations, kappa and R² can fall below 0. Those in `LOWER` are in units of their own.
"""

from collections.abc import Mapping
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LOWER = frozenset({"loss", "perplexity", "bits_per_character", "mse", "mae"})  # the smaller, the better


class Marks(Protocol):
    """What rows earned; a metric is computed of all of them, of some, or of resamples."""

    def __len__(self) -> int:
        """Rows."""
        ...

    def score(self, metric: str, weights: Floats | None = None) -> Floats:
        """The metric of all rows (no dimension), or of each resample (draws,).

        Args:
            weights: (draws, rows) how often each row was drawn.

        Raises:
            ValueError: there is no such metric here.
        """
        ...

    def per_class(self, kind: str) -> dict[str, float]:
        """Precision, recall or f1 of each class that is true or predicted somewhere; nothing, where there are none."""
        ...

    @property
    def support(self) -> dict[str, int]:
        """How often each class is true; nothing, where there are none."""
        ...

    @property
    def signatures(self) -> Mapping[str, str]:
        """How metrics were computed, in the words of their library; nothing, where it has none."""
        ...

    def at(self, rows: npt.NDArray[np.bool_]) -> Self:
        """The marks of these rows alone."""
        ...


def gain(metric: str, challenger: Floats, champion: Floats) -> Floats:
    """By how much the challenger is better; what is better when it is smaller is turned around."""
    return champion - challenger if metric in LOWER else challenger - champion
