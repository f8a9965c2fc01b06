"""Readers by format: each turns an open file into its rows and faults, one after another."""

from collections.abc import Callable, Iterator
from functools import partial
from io import BufferedReader

from tasks.data.readers import jsonl, labelled, parquet, separated
from tasks.data.readers.lines import Fault, Row

Reader = Callable[[BufferedReader, str], Iterator[Row | Fault]]
READERS: dict[str, Reader] = {
    "jsonl": jsonl.rows,
    "json": labelled.rows,
    "csv": partial(separated.rows, delimiter=","),
    "tsv": partial(separated.rows, delimiter="\t"),
    "parquet": parquet.rows,
    "text": separated.text,
}
