"""How fast rows become shards, beside the tokenizers library's own batch encoder and beside one padded row at a time.

Ours reads a Parquet file of checked rows and writes a shard, labels included. The batch encoder is given the same rows
in memory, all in one call, and writes nothing. One row at a time is what many training scripts do in `__getitem__`:
transformers' tokenizer with padding to 128 and tensors. The contenders take turns, and the order is turned around
every other round; a ratio is the median of the ratios within each round.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.json
import pyarrow.parquet as pq
from transformers import AutoTokenizer

from tasks import problems
from tasks.data import tokenisers
from tasks.data.shards import encode_split
from tests.bench import data
from tests.bench.data import LENGTH
from tests.bench.results import Section

ROUNDS = 7
SAMPLE = 1500  # rows of a round of one row at a time
ROW_GROUP = 8192  # as validate writes them

OURS, BATCH, SINGLE = "Vernal, Parquet to shard", "encode_batch_fast alone", "one row at a time, padded to 128"
HEADS = ("contender", "rows/s of CPU time", "rows/s", "Vernal is × faster, CPU time", "× faster, wall")


@dataclass(frozen=True)
class Corpus:
    """Checked rows as a table, `text` and `label` or `tokens` and `tags`."""

    name: str
    table: pa.Table

    @property
    def words(self) -> bool:
        return "tags" in self.table.column_names

    @property
    def labels(self) -> dict[str, int]:
        """A number for each label."""
        column = self.table.column(1).combine_chunks()
        labels = column.flatten() if self.words else column
        return {label: number for number, label in enumerate(sorted(labels.unique().to_pylist()))}


@dataclass(frozen=True)
class Spent:
    """Seconds per row of one turn."""

    cpu: float
    wall: float


def sections(steps: int | None) -> Iterator[Section]:
    """A table for texts and one for words; `steps` are rounds here."""
    for corpus in corpora(data.root()):
        with tempfile.TemporaryDirectory() as folder:
            found = rounds(contenders(corpus, data.minilm(), Path(folder)), steps or ROUNDS)
        text = (
            f"{len(corpus.table):,} rows, MiniLM's WordPiece, one thread; medians of {steps or ROUNDS} rounds, one row "
            f"at a time on the first {SAMPLE:,} rows."
        )
        yield Section(f"Tokenising: {corpus.name}", text, HEADS, lines(found))


def corpora(folder: Path) -> Iterator[Corpus]:
    """Banking77 and CoNLL-2003, all splits."""
    texts = pa.concat_tables(pyarrow.json.read_json(path) for path in sorted((folder / "banking77").glob("*.jsonl")))
    yield Corpus("texts of banking77", texts.select(["text", "label"]))
    words = pa.concat_tables(pq.read_table(path) for path in sorted((folder / "conll2003").glob("*.parquet")))
    yield Corpus("words of conll2003", words.select(["tokens", "tags"]))


def spent(turn: Callable[[], int]) -> Spent:
    """What a turn costs, which says how many rows it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    rows = turn()
    return Spent((time.process_time() - cpu) / rows, (time.perf_counter() - wall) / rows)


def contenders(corpus: Corpus, base: Path, folder: Path) -> dict[str, Callable[[], int]]:
    """A turn of each, by name."""
    checked, rows = folder / f"{corpus.name}.parquet", corpus.table.column(0).to_pylist()
    pq.write_table(corpus.table, checked, row_group_size=ROW_GROUP, compression="zstd")
    problem = problems.named("token-classification" if corpus.words else "text-classification")
    encoder = tokenisers.encoder(tokenisers.read(base), LENGTH, problem)
    tokenizer = encoder.tokenizer
    single = AutoTokenizer.from_pretrained(base, local_files_only=True)
    labels = corpus.labels

    def ours() -> int:
        with tempfile.TemporaryDirectory(dir=folder) as there:
            encode_split(checked, Path(there) / "split", encoder, labels, problem)
        return len(rows)

    def batch() -> int:
        return len(tokenizer.encode_batch_fast(rows, is_pretokenized=corpus.words))

    def one_by_one() -> int:
        how: dict[str, Any] = {
            "padding": "max_length",
            "truncation": True,
            "max_length": LENGTH,
            "return_tensors": "pt",
        }
        for row in rows[:SAMPLE]:
            single(row, is_split_into_words=corpus.words, **how)
        return SAMPLE

    return {OURS: ours, BATCH: batch, SINGLE: one_by_one}


def rounds(turns: dict[str, Callable[[], int]], number: int) -> list[dict[str, Spent]]:
    """What each turn cost, round by round, after one round that only warms up."""
    orders = [list(turns), list(turns)[::-1]]
    return [{name: spent(turns[name]) for name in orders[each % 2]} for each in range(number + 1)][1:]


def lines(found: list[dict[str, Spent]]) -> list[list[str]]:
    """A line of the table for each contender."""
    told = []
    for name in sorted(found[0]):
        cells = [f"{1 / median(getattr(each[name], clock) for each in found):,.0f}" for clock in ("cpu", "wall")]
        for clock in ("cpu", "wall"):
            cells.append(f"{median(getattr(each[name], clock) / getattr(each[OURS], clock) for each in found):.2f}")
        told.append([name, *cells])
    return told
