"""Peak memory of training, each contender in a process of its own.

Read from the process's high-water mark in /proc: `getrusage` in a child starts from what its parent had used (788 MB
were reported for an empty Python whose parent held 800 MB).
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.bench.results import Section

DATASET, BATCHES, STEPS = "banking77", (16, 64), 4
CONTENDERS = ("Trainer, dynamic padding", "Vernal")
HEADS = ("contender", "batch", "peak MB", "of which before training", "share of the Trainer's peak")


def sections(steps: int | None) -> Iterator[Section]:
    """One table, in fp32."""
    rows = []
    for batch in BATCHES:
        found = {name: measured(name, batch, steps or STEPS) for name in CONTENDERS}
        for name, (before, peak) in found.items():
            share = peak / found[CONTENDERS[0]][1]
            rows.append([name, str(batch), f"{peak:.0f}", f"{before:.0f}", f"{share:.2f}"])
    text = f"MiniLM on {DATASET}, fp32, {steps or STEPS} steps; interpreter, libraries, model and data included."
    yield Section("Peak memory of training", text, HEADS, rows)


def measured(contender: str, batch: int, steps: int) -> tuple[float, float]:
    """MB at most before the training and until its end, of a new process."""
    command = [sys.executable, "-m", "tests.bench.memory", contender, str(batch), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{contender} ended with {done.returncode}: {done.stderr[-2000:]}")
    before, peak = json.loads(done.stdout.splitlines()[-1])
    return before, peak


def high_water() -> float:
    """The most that this process has held so far, in MB (10^6 bytes)."""
    status = Path("/proc/self/status").read_text().split("\n")
    return next(int(line.split()[1]) * 1024 / 1e6 for line in status if line.startswith("VmHWM"))


def train(contender: str, batch: int, steps: int) -> None:
    """What a process of its own does."""
    from tests.bench import data
    from tests.bench.dials import how

    shard, model, dials = data.shard(DATASET, batch * steps), data.pretrained(DATASET), how(batch, "fp32")
    if contender == "Vernal":
        from tests.bench import ours

        contending = ours.steps(model, shard, dials, whole=data.encoded(DATASET, data.read(DATASET, "train")))
    else:
        from tests.bench import trainers

        contending = trainers.steps(model, shard, dials, "dynamic", data.tokenizer())
    before = high_water()
    assert sum(1 for _ in contending) == steps + 1
    print(json.dumps([before, high_water()]))


if __name__ == "__main__":
    train(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
