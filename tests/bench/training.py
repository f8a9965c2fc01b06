"""Full fine-tuning of MiniLM: our engine against the plain Hugging Face way, on short and on mixed rows."""

from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedModel

from tasks.data.shards import Shard
from tasks.recipe import Train
from tests.bench import data, flops, ours, trainers
from tests.bench.dials import how
from tests.bench.paired import Taken, Turn, run, total
from tests.bench.results import Section
from tests.bench.roofline import Peak

STEPS = {16: 16, 64: 4}  # by batch size
BASE = "Trainer, dynamic padding"
HEADS = (
    "contender",
    "× faster, CPU time",
    "× faster, wall",
    "rows/s",
    "tokens/s",
    "useful GFLOP/s",
    "of fp32 GEMM peak",
)


def sections(steps: int | None) -> Iterator[Section]:
    """A table for each dataset and batch size; `steps` cuts them short."""
    for dataset in data.DATASETS:
        for batch, usual in STEPS.items():
            yield section(dataset, batch, steps or usual)


def contenders(
    model: Callable[[], PreTrainedModel], shard: Shard, whole: Shard, batch: int, tokenizer: object
) -> dict[str, Iterator[Taken]]:
    """Everybody who takes part in the table, the base first; `shard` is a sample of the `whole` training rows."""
    fp32, bf16 = how(batch, "fp32"), how(batch, "bf16")

    def trainer(precision: Train, padding: trainers.Padding) -> Iterator[Taken]:
        return trainers.steps(model(), shard, precision, padding, tokenizer)

    return {
        BASE: trainer(fp32, "dynamic"),
        "Trainer, padding to 128": trainer(fp32, "fixed"),
        "Trainer, group_by_length": trainer(fp32, "grouped"),
        "Trainer, dynamic padding, bf16": trainer(bf16, "dynamic"),
        "Vernal": ours.steps(model(), shard, fp32, whole=whole),
        "Vernal, bf16": ours.steps(model(), shard, bf16, whole=whole),
    }


def section(dataset: str, batch: int, steps: int) -> Section:
    """One epoch over `steps` batches of a dataset by everybody."""
    shard, config = data.shard(dataset, batch * steps), data.pretrained(dataset).config
    whole = data.encoded(dataset, data.read(dataset, "train"))
    peak = Peak()
    everybody = contenders(lambda: data.pretrained(dataset), shard, whole, batch, data.tokenizer())
    turns = run(everybody, between=peak.sample)
    text = (
        f"MiniLM, {len(data.names(dataset))} labels, dropout {config.hidden_dropout_prob}; one epoch over {len(shard)} "
        f"rows of {shard.lengths.mean():.1f} tokens (longest {shard.lengths.max()}), contenders alternating by step. "
        f"GEMM peak in the same minutes: {peak.best[torch.float32]:.0f} GFLOP/s in fp32, "
        f"{peak.best[torch.bfloat16]:.0f} in bf16. Rates are of CPU time, FLOPs those of the real tokens."
    )
    useful = flops.training(config, shard.lengths)
    rows = table(turns, BASE, useful, peak.best[torch.float32])
    return Section(f"Training: {dataset}, batch {batch}", text, HEADS, rows)


def table(turns: dict[str, list[Turn]], base: str, useful: float, peak: float) -> list[list[str]]:
    """A line for each contender; `useful` FLOPs were done by each, `peak` is in GFLOP/s."""
    lines, theirs = [], total(turns[base])
    for name, taken in turns.items():
        own = total(taken)
        rate = useful / own.cpu / 1e9
        ratios = [f"{theirs.cpu / own.cpu:.2f}", f"{theirs.wall / own.wall:.2f}"]
        rates = [f"{own.rows / own.cpu:.1f}", f"{own.tokens / own.cpu:.0f}", f"{rate:.1f}", f"{rate / peak:.0%}"]
        lines.append([name, *ratios, *rates])
    return lines
