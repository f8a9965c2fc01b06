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

from tasks import problems, recipe
from tasks.metrics.marks import Marks
from tasks.model.bundle import Model
from tasks.problems.contract import Prediction, Problem

SMALLEST_SLICE = 20  # rows; below, a score says nothing
MOST_SLICES = 12  # of one column


@dataclass(frozen=True)
class Exam:
    """The rows of a checked split."""

    problem: Problem
    table: pa.Table

    @classmethod
    def read(cls, task: recipe.Task, path: Path) -> "Exam":
        return cls(problems.named(task), pq.read_table(path))

    def at(self, rows: npt.NDArray[np.bool_]) -> "Exam":
        """The exam of these rows alone."""
        return Exam(self.problem, self.table.filter(pa.array(rows)))

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Role -> value of each row, answers included."""
        return list(self.table.select(list(self.problem.roles)).to_pylist())

    @cached_property
    def truth(self) -> list[Any]:
        """What the answers should be."""
        return [self.problem.truth(row) for row in self.rows]

    def sat_by(self, model: Model) -> "Sitting":
        """The model's answers to all rows."""
        return Sitting(self, tuple(model.sit([self.problem.asked(row) for row in self.rows])), model.labels)

    def slices(self, columns: Sequence[str]) -> dict[str, npt.NDArray[np.bool_]]:
        """Named parts of the rows: quarters by length, and the frequent values of other columns."""
        found: dict[str, npt.NDArray[np.bool_]] = {}
        for column in columns:
            found |= self._by_length() if column == "length" else self._by_value(column)
        return {name: at for name, at in found.items() if at.sum() >= SMALLEST_SLICE}

    def _by_length(self) -> dict[str, npt.NDArray[np.bool_]]:
        counted = "words" in self.problem.inputs.values()
        said = [list(self.problem.said(row)) for row in self.rows]
        lengths = np.array([len(texts) if counted else sum(map(len, texts)) for texts in said])
        unit = "words" if counted else "characters"
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
        return [each.answer for each in self.answers]

    @cached_property
    def marks(self) -> Marks:
        """What the answers earn, over the model's own labels."""
        return self.marked(self.labels)

    def marked(self, labels: tuple[str, ...]) -> Marks:
        """What the answers earn, over the classes that `labels` name."""
        return self.exam.problem.marks(self.exam.truth, self.predicted, labels)

    def confidence(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]] | None:
        """Probability of each answer, and whether it was right; None: they have no probability of their own.

        Where words are tagged, each tag is an answer.
        """
        tagged = self.exam.problem.tagged
        if not tagged and not {"label", "place"} & set(self.exam.problem.answers.values()):
            return None
        pairs = list(zip(self.predicted, self.exam.truth, strict=True))
        scores = [each.score for each in self.answers]
        if tagged:
            pairs = [pair for guess, true in pairs for pair in zip(guess, true, strict=True)]
            scores = [score for each in scores for score in (each if isinstance(each, list) else [each])]
        return np.array(scores, np.float64), np.array([guess == true for guess, true in pairs])

    @cached_property
    def confused(self) -> list[tuple[str, str]]:
        """True and predicted label in pairs: of each row, or of each word (kinds of entity, without B- and I-).

        Of sets of labels, those that differ in one label say who is confused; "(none)": nothing in its place.
        """
        pairs = list(zip(self.exam.truth, self.predicted, strict=True))
        if self.exam.problem.tagged:
            return [(_kind(true), _kind(guess)) for row in pairs for true, guess in zip(*row, strict=True)]
        if "labels" not in self.exam.problem.answers.values():
            return pairs
        sets = [(set(true), set(guess)) for true, guess in pairs]
        cells = [(a, b) for t, g in sets for a in sorted(t - g) or [""] for b in sorted(g - t) or [""] if a or b]
        cells += [(each, each) for t, g in sets for each in sorted(t & g)]
        return [(true or "(none)", guess or "(none)") for true, guess in cells]


def _kind(tag: str) -> str:
    return tag.partition("-")[2] or tag
