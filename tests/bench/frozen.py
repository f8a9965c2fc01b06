"""Fine-tuning of the top layers only, over ten epochs, where what lies below need not be computed again.

The plain way is a Trainer with the same layers frozen and the model's dropout as it ships. Ours keeps the states of the
frozen layers; making them is part of its first step.
"""

from collections.abc import Iterator

from tests.bench import data, ours, trainers, training
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
    """Who trains the `top` layers, the base first."""
    shard, dials = data.shard(DATASET, BATCH * steps), how(BATCH, "fp32", EPOCHS)
    plain = trainers.freeze(data.pretrained(DATASET), top)
    upper = dials.model_copy(update={"top_layers": top})
    return {
        training.BASE: trainers.steps(plain, shard, dials, "dynamic", data.tokenizer()),
        "Vernal": ours.steps(data.pretrained(DATASET), shard, upper),
    }


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
