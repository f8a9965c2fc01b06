"""The training table on one CUDA device: tokens a second, and the share of its arithmetic that is useful.

    python -m tests.bench.gpu                         on the device
    python -m tests.bench.gpu --device cpu --steps 2  a small batch on the processor: shows that it runs, no more

Needs neither dataset nor weights: rows of random tokens as long as short messages, models drawn from their configs. A
turn is ten steps, so that the device is not waited for after each. Model FLOPs utilisation (Chowdhery et al. 2022,
PaLM, appendix B) is of the bf16 GEMM peak measured here, not of a data sheet's.
"""

import argparse
import sys
import time
from collections.abc import Iterator

import torch
from transformers import BertConfig, PreTrainedModel

from tasks.data.shards import Shard
from tasks.errors import Coded, Missing
from tests.bench import data, flops, ours, trainers
from tests.bench.dials import how
from tests.bench.paired import Taken, run, total
from tests.bench.results import Section

LABELS = 77
MODELS = {
    "MiniLM-L6": BertConfig(num_hidden_layers=6, hidden_size=384, intermediate_size=1536, num_labels=LABELS),
    "BERT-base": BertConfig(num_labels=LABELS),
}
BATCHES = {"cuda": (16, 64, 256), "cpu": (4,)}
STEPS, TURN = 60, 10
BASE = "Trainer, dynamic padding"
HEADS = ("contender, all in bf16", "× faster, wall", "rows/s", "tokens/s", "useful TFLOP/s", "MFU", "ms a step")


def contenders(config: BertConfig, shard: Shard, batch: int, device: str) -> dict[str, Iterator[Taken]]:
    """Everybody who takes part, the base first."""
    dials = how(batch, "bf16")

    def model() -> PreTrainedModel:
        return data.initialised(config)

    def trainer(padding: trainers.Padding) -> Iterator[Taken]:
        return trainers.steps(model(), shard, dials, padding, data.padder(), device)

    return {
        BASE: trainer("dynamic"),
        "Trainer, padding to 128": trainer("fixed"),
        "Trainer, group_by_length": trainer("grouped"),
        "Vernal": ours.steps(model(), shard, dials, device),
    }


def section(name: str, batch: int, steps: int, device: str) -> Section:
    """One model at one batch size."""
    config = MODELS[name]
    shard = data.imagined(batch * steps, LABELS, config.vocab_size)
    settle = torch.cuda.synchronize if device == "cuda" else lambda: None
    peak = gemm_peak(device)
    turns = run(contenders(config, shard, batch, device), steps_a_turn=TURN, settle=settle)
    useful, base, rows = flops.training(config, shard.lengths), total(turns[BASE]), []
    for who, own in ((who, total(taken)) for who, taken in turns.items()):
        rate = useful / own.wall / 1e12
        rates = [f"{own.rows / own.wall:,.0f}", f"{own.tokens / own.wall:,.0f}", f"{rate:.2f}", f"{rate / peak:.1%}"]
        rows.append([who, f"{base.wall / own.wall:.2f}", *rates, f"{1e3 * own.wall / steps:.1f}"])
    text = f"{steps} steps of {batch} rows of {shard.lengths.mean():.1f} tokens; GEMM peak {peak:.2f} TFLOP/s in bf16."
    return Section(f"{name}, batch {batch}", text, HEADS, rows)


def gemm_peak(device: str) -> float:
    """TFLOP/s of the best of ten large products in bf16."""
    size = 8192 if device == "cuda" else 1024
    one, other = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        if device == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        one @ other
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2e-12 * size**3 / best


def main() -> int:
    """Prints the tables; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gpu", description=__doc__.partition("\n")[0])
    parser.add_argument("--device", choices=list(BATCHES), default="cuda")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of each contender")
    asked = parser.parse_args()
    try:
        if asked.device == "cuda" and not torch.cuda.is_available():
            raise Missing(
                "E-BENCH-DEVICE",
                f"torch {torch.__version__} finds no CUDA device; run this on a machine that has one, with a build of "
                "torch for CUDA, or `--device cpu --steps 2` to see that the bench itself runs",
            )
        for name in MODELS:
            for batch in BATCHES[asked.device]:
                print(section(name, batch, asked.steps, asked.device), flush=True)
    except Coded as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
