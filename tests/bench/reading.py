"""How fast rows come out of a shard, in the way of the training loop.

The shard lies on disk, memory-mapped, its pages in memory already. A row counts when it stands in the arrays that
`Forward.batch` returns: token ids and mask filled up to the longest row of their part, label, length. Drawing the order
of the epoch and parting a batch by the token budget is included; what the model does with the arrays is not.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from tasks.data import batches, shards
from tasks.model import loop
from tests.bench import data
from tests.bench.dials import how
from tests.bench.results import Section

BATCHES = (16, 64, 256, 1024)
EPOCHS = 5
PAD = 0
HEADS = ("rows", "batch", "rows/s, any lengths together", "rows/s, near lengths together")


def sections(steps: int | None) -> Iterator[Section]:
    """One table; `steps` are epochs here."""
    rows = []
    for dataset in data.DATASETS:
        with TemporaryDirectory() as folder:
            shard = written(dataset, Path(folder) / "shard")
            for batch in BATCHES:
                rates = [
                    median(rate(shard, batch, way, each) for each in range(steps or EPOCHS)) for way in (False, True)
                ]
                rows.append([f"{dataset}: {len(shard):,}", str(batch), *(f"{each:,.0f}" for each in rates)])
    text = f"Training rows as MiniLM's tokens, of CPU time, one thread; medians of {steps or EPOCHS} epochs."
    yield Section("Reading batches from shards", text, HEADS, rows)


def written(dataset: str, folder: Path) -> shards.Shard:
    """The training split as a shard on disk, mapped into memory."""
    made = data.encoded(dataset, data.read(dataset, "train"))
    with shards.Writer(folder, vocabulary=2**15, at="rows") as writer:
        writer.append(made.tokens, made.lengths, made.labels)
    return shards.read(folder)


def rate(shard: shards.Shard, batch: int, by_length: bool, epoch: int) -> float:
    """Rows a second of CPU time, over one epoch."""
    plan, rows = loop.Plan(shard, how(batch, "fp32", EPOCHS), by_length), 0
    began = time.process_time()
    for together in plan.epoch(epoch):
        for part in plan.parts(together):
            rows += len(batches.padded(shard, part, PAD).lengths)
    spent = time.process_time() - began
    assert rows == len(shard)
    return rows / spent
