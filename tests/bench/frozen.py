"""Fine-tuning of the top layers only, over ten epochs, where what lies below need not be computed again.

So far the plain way alone: a Trainer with the same layers frozen and the model's dropout as it ships.
"""

from collections.abc import Iterator

from tests.bench import data, trainers, training
from tests.bench.dials import how
from tests.bench.paired import Taken, run, total
from tests.bench.results import Section

DATASET, BATCH, EPOCHS = "banking77", 16, 10
STEPS = 6  # of an epoch
TOPS = (2, 1, 0)  # layers that are trained, besides pooler and head
HEADS = ("trained", "contender", "parameters trained", "× faster, CPU time", "rows/s", "CPU seconds")


def sections(steps: int | None) -> Iterator[Section]:
    """One table for all depths; `steps` of an epoch cut it short."""
    rows = [line for top in TOPS for line in lines(top, steps or STEPS)]
    text = f"MiniLM on {DATASET}, batch {BATCH}, fp32: {EPOCHS} epochs over {BATCH * (steps or STEPS)} rows."
    yield Section("Training with frozen layers", text, HEADS, rows)


def contenders(top: int, steps: int) -> dict[str, Iterator[Taken]]:
    """Who trains the `top` layers, the base first. OURS JOINS HERE."""
    shard = data.shard(DATASET, BATCH * steps)
    plain = trainers.freeze(data.pretrained(DATASET), top)
    return {training.BASE: trainers.steps(plain, shard, how(BATCH, "fp32", EPOCHS), "dynamic", data.tokenizer())}


def lines(top: int, steps: int) -> list[list[str]]:
    """The lines of the table for one depth."""
    turns = run(contenders(top, steps))
    base = total(turns[training.BASE])
    trained = trainers.trained(trainers.freeze(data.pretrained(DATASET), top))
    depth = f"top {top} of 6 layers and head" if top else "head only"
    return [
        [depth, name, f"{trained:,}", f"{base.cpu / own.cpu:.2f}", f"{own.rows / own.cpu:.1f}", f"{own.cpu:.1f}"]
        for name, own in ((name, total(taken)) for name, taken in turns.items())
    ]
