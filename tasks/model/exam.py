"""The exam: rows with their truth, sat by a model; `evaluate` and the gate ask champion and challenger the same way."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks import recipe
from tasks.model import metrics
from tasks.model.bundle import Model, Prediction

SMALLEST_SLICE = 20  # rows; below, a score says nothing
MOST_SLICES = 12  # of one column


@dataclass(frozen=True)
class Exam:
    """The rows of a checked split."""

    task: recipe.Task
    table: pa.Table

    @classmethod
    def read(cls, task: recipe.Task, path: Path) -> "Exam":
        return cls(task, pq.read_table(path))

    @property
    def words(self) -> bool:
        return self.task == "token-classification"

    @cached_property
    def rows(self) -> list[Any]:
        """Texts, or lists of words."""
        found: list[Any] = self.table["tokens" if self.words else "text"].to_pylist()
        return found

    @cached_property
    def truth(self) -> list[Any]:
        """Labels, or lists of tags."""
        found: list[Any] = self.table["tags" if self.words else "label"].to_pylist()
        return found

    def sat_by(self, model: Model) -> "Sitting":
        """The model's answers to all rows."""
        return Sitting(self, tuple(model.predict(self.rows)), model.labels)

    def slices(self, columns: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
        """Named parts of the rows: quarters by length, and the frequent values of other columns."""
        found: dict[str, npt.NDArray[np.bool_]] = {}
        for column in columns:
            found |= self._by_length() if column == "length" else self._by_value(column)
        return {name: at for name, at in found.items() if at.sum() >= SMALLEST_SLICE}

    def _by_length(self) -> dict[str, npt.NDArray[np.bool_]]:
        lengths = np.array([len(row) for row in self.rows])
        unit = "words" if self.words else "characters"
        edges = np.unique(np.quantile(lengths, [0, 0.25, 0.5, 0.75, 1]).astype(int))
        parts = {}
        for low, high in pairwise(edges):
            last = high == edges[-1]
            name = f"length: {low}..{high if last else high - 1} {unit}"
            parts[name] = (lengths >= low) & (lengths <= high if last else lengths < high)
        return parts

    def _by_value(self, column: str) -> dict[str, npt.NDArray[np.bool_]]:
        if column in self.table.column_names:
            values = np.array([str(each) for each in self.table[column].to_pylist()])
        else:
            values = np.array([str(dict(each or ()).get(column, "")) for each in self.table["extra"].to_pylist()])
        found, rows = np.unique(values, return_counts=True)
        frequent = found[np.argsort(-rows, kind="stable")][:MOST_SLICES]
        return {f"{column}: {value or '(none)'}": values == value for value in frequent}


@dataclass(frozen=True)
class Sitting:
    """What a model answered in an exam."""

    exam: Exam
    answers: tuple[Prediction, ...]
    labels: tuple[str, ...]

    @cached_property
    def predicted(self) -> list[Any]:
        return [each.label for each in self.answers]

    @cached_property
    def counts(self) -> metrics.Counts:
        """Counts of each row over the model's own labels."""
        return self.counted(self.labels)

    def counted(self, labels: Sequence[str]) -> metrics.Counts:
        """Counts of each row over the classes that `labels` name."""
        return metrics.count(self.exam.task, self.exam.truth, self.predicted, labels)

    def confidence(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        """Probability of each answer, and whether it was right; one a word where words are labelled."""
        if not self.exam.words:
            right = [a == b for a, b in zip(self.predicted, self.exam.truth, strict=True)]
            return np.array([each.score for each in self.answers], np.float64), np.array(right)
        scores = [s for each in self.answers for s in (each.score if isinstance(each.score, list) else [each.score])]
        pairs = zip(self.predicted, self.exam.truth, strict=True)
        right = [a == b for guess, true in pairs for a, b in zip(guess, true, strict=True)]
        return np.array(scores, np.float64), np.array(right)
