"""Checked rows, read back a batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.problems import Problem
from tasks.problems.contract import texts_of

BATCH = 4096  # rows at once; enough for a tokenizer to keep two threads busy


def columns(table: Path, problem: Problem) -> Iterator[dict[str, pa.Array]]:
    """The roles of the rows of a checked split, a batch at a time; not read ahead, as in `survey.batches`."""
    with pq.ParquetFile(table, pre_buffer=False) as file:
        for batch in file.iter_batches(BATCH, columns=list(problem.roles)):
            yield {role: batch.column(role) for role in problem.roles}


def rows(table: Path, problem: Problem) -> Iterator[dict[str, Any]]:
    """The rows of a checked split."""
    for batch in columns(table, problem):
        values = [column.to_pylist() for column in batch.values()]
        for row in zip(*values, strict=True):
            yield dict(zip(batch, row, strict=True))


def texts(table: Path, problem: Problem) -> Iterator[str]:
    """What a tokenizer learns from: the texts of a checked split, words joined by blanks."""
    for row in rows(table, problem):
        for role, kind in problem.roles.items():
            if kind == "words":
                yield " ".join(row[role])
            elif kind in ("text", "texts", "turns"):
                yield from texts_of(row[role], kind)
