"""What is remembered of the rows of a file that is too large to be kept: 85 bytes of each, and no text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.data import duplicates, rules, splits
from tasks.problems.contract import NAMED, Kind, Problem
from tasks.problems.contract import texts_of as texts_in

BATCH = 8192
KEPT = 0
FATES = ("kept", *rules.REASONS, "duplicate", "leak-exact", "leak-near", "leak-group", "leak-time")


@dataclass(frozen=True)
class Survey:
    """What is remembered of each row; for faulty rows only the fate."""

    fates: NDArray[np.int8]
    digests: NDArray[np.bytes_]  # of the folded text, 16 bytes
    answers: NDArray[np.uint64]  # of the label or the tags
    strata: NDArray[np.uint64]  # of the label, or whether there is an entity
    named: NDArray[np.int8]
    groups: NDArray[np.uint64]
    times: NDArray[np.int64]
    characters: NDArray[np.int32]
    words: NDArray[np.int32]
    spaced: NDArray[np.bool_]

    @property
    def automatic(self) -> NDArray[np.bool_]:
        """Which rows no person has labelled."""
        return np.asarray(self.named == splits.AUTOMATIC)

    @property
    def traits(self) -> splits.Traits:
        hashes = self.digests.view(np.uint64)[::2]
        return splits.Traits(self.named, hashes, self.strata.view(np.int64), self.groups, self.times)


def look(path: Path, form: rules.Form) -> Survey:
    """The survey of a file of rows, held against `form`."""
    columns: tuple[list[Any], ...] = tuple([] for _ in range(10))
    types = ("i1", "S16", "u8", "u8", "i1", "u8", "i8", "i4", "i4", "?")
    empty = [np.empty(0, type) for type in types]
    for _, batch in batches(path, (*form.problem.roles, "split", "time", "group")):
        names = batch["split"].to_pylist()
        whole = (texts_of(batch, form.problem), answers_of(batch, form.problem))
        seen = [_seen(*each, form) for each in zip(rows_of(batch, form.problem), names, *whole, strict=True)]
        for column, values, type in zip(columns, zip(*seen, strict=True), types, strict=True):
            column.append(np.array(values, type))
    return Survey(*(np.concatenate([none, *parts]) for none, parts in zip(empty, columns, strict=True)))


def _seen(row: rules.Row, split: str, text: str, told: list[str], form: rules.Form) -> tuple[Any, ...]:
    if fault := rules.row_fault(row, form):
        return FATES.index(fault.reason), b"", 0, 0, splits.NAMED[split], 0, 0, 0, 0, False
    problem = form.problem
    answer = _hash("\n".join(told))
    words = [row.values[role] for role, kind in problem.inputs.items() if kind == "words"]
    return (
        KEPT,
        duplicates.digest(duplicates.fold(text)),
        answer,
        _stratum(told, answer, problem),
        splits.NAMED[split],
        _hash(row.group) if row.group else 0,
        (rules.instant(row.time) or 0) if row.time else 0,
        len(text),
        sum(map(len, words)) or len(text.split()),
        duplicates.is_spaced(text),
    )


def _stratum(told: Sequence[str], answer: int, problem: Problem) -> int:
    """What is to be shared out evenly: labels; whether there is an entity; nothing else."""
    if problem.tagged:
        return int(any(tag != rules.OUTSIDE for tag in told))
    return answer if "label" in problem.answers.values() else 0


def texts_of(batch: pa.RecordBatch, problem: Problem) -> list[str]:
    """All that a model is given of each row, as one text."""
    roles = [_joined(batch[role].to_pylist(), kind) for role, kind in problem.inputs.items()]
    return roles[0] if len(roles) == 1 else [" ".join(row) for row in zip(*roles, strict=True)]


def _joined(values: list[Any], kind: Kind) -> list[str]:
    if kind == "text":
        return [text or "" for text in values]
    return [" ".join(text or "" for text in texts_in(row or (), kind)) for row in values]


def answers_of(batch: pa.RecordBatch, problem: Problem) -> list[list[str]]:
    """The answers of each row as they are compared: of a label set in NFC, and sets of labels in one order."""
    roles = [_compared(batch[role].to_pylist(), kind) for role, kind in problem.answers.items()]
    if not roles:
        return [[]] * len(batch)
    return roles[0] if len(roles) == 1 else [list(chain.from_iterable(row)) for row in zip(*roles, strict=True)]


def _compared(values: list[Any], kind: Kind) -> list[list[str]]:
    if kind == "label":
        return [[rules.composed(label or "")] for label in values]
    if kind in NAMED:
        rows = [[rules.composed(name or "") for name in row or ()] for row in values]
        return [sorted(row) for row in rows] if kind == "labels" else rows
    return [texts_in(value, kind) for value in values]


def _hash(text: str) -> int:
    return int.from_bytes(duplicates.digest(text, 8), "little")


def batches(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of a file of rows (those of `columns` that it has), each with the number of its first row.

    Not read ahead: Arrow would keep the packed bytes of all groups until the last is read.
    """
    start = 0
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=BATCH, columns=columns):
            yield start, batch
            start += len(batch)


def rows_of(batch: pa.RecordBatch, problem: Problem) -> list[rules.Row]:
    """The rows of a batch as the rules look at them."""
    values = batch.select(list(problem.roles)).to_pylist()
    rest = (batch[name].to_pylist() for name in ("time", "group"))
    return [rules.Row(*each) for each in zip(values, *rest, strict=True)]


def some_tag_is_prefixed(path: Path, problem: Problem) -> bool:
    """Whether tags are entities with a prefix, such as B-PER, and not parts of speech."""
    tags = next((role for role, kind in problem.answers.items() if kind == "tags"), None)
    if tags is None:
        return False
    with pq.ParquetFile(path, pre_buffer=False) as file:
        batches = file.iter_batches(batch_size=BATCH, columns=[tags])
        return any(pc.any(pc.match_substring(batch[tags].flatten(), "-")).as_py() for batch in batches)
