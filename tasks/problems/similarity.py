"""Two texts have a number together: how near their meanings are, how well the second answers the first."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from tasks.problems.contract import Row
from tasks.problems.regression import Regression


class Similarity(Regression):
    """The number of a pair of texts, which the model reads as one row."""

    inputs = {"text": "text", "pair": "text"}

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        return {"shared words": [jaccard(row["text"], row["pair"]) for row in rows]}


def jaccard(one: str, other: str) -> float:
    """The share of their words that two texts have in common, 0..1 (Jaccard 1912)."""
    first, second = (set(re.findall(r"\w+", text.lower())) for text in (one, other))
    return len(first & second) / max(1, len(first | second))


PROBLEM = Similarity()
