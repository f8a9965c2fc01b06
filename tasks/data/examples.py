"""Checked rows, read back a batch at a time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.recipe import Task

BATCH = 4096  # rows at once; enough for a tokenizer to keep two threads busy


def by_words(task: Task) -> bool:
    """Whether rows are lists of words with a tag each, rather than texts with one label."""
    return task == "token-classification"


def columns(table: Path, words: bool) -> Iterator[tuple[pa.Array, pa.Array]]:
    """Rows and labels of a checked split, a batch at a time: texts and labels, or words and tags."""
    names = ["tokens", "tags"] if words else ["text", "label"]
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(BATCH, columns=names):
            yield batch.column(names[0]), batch.column(names[1])


def batches(table: Path, words: bool) -> Iterator[tuple[list[Any], list[Any]]]:
    """The same as lists."""
    for rows, labels in columns(table, words):
        yield rows.to_pylist(), labels.to_pylist()


def texts(table: Path, words: bool) -> Iterator[str]:
    """The texts of a checked split; words are joined by blanks."""
    for found, _ in batches(table, words):
        yield from (" ".join(row) for row in found) if words else found
