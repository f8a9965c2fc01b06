"""Peak memory: of training, each contender in a process of its own, and of whole runs beside what `check` forecasts.

Read from the process's high-water mark in /proc: `getrusage` in a child starts from what its parent had used (788 MB
were reported for an empty Python whose parent held 800 MB).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.results import Section

DATASET, BATCHES, STEPS = "banking77", (16, 64), 4
CONTENDERS = ("Trainer, dynamic padding", "Vernal")
HEADS = ("contender", "batch", "peak MB", "of which before training", "share of the Trainer's peak")

ROOT = Path(__file__).parents[2]
DEEP = "model.base={architecture: encoder, num_layers: 12, d_model: 256, num_heads: 4}"
RUNS = {  # recipe, and what its run is cut to or otherwise done with
    "quickstart": ("quickstart", []),
    "quickstart, 12 layers of width 256, batch 64, 2 epochs": (
        "quickstart",
        [DEEP, "train.batch=64", "train.epochs=2"],
    ),
    "intent, 1 epoch": ("intent", ["train.epochs=1"]),
    "intent, batch 64, 400 tokens at once, 3,000 rows": (
        "intent",
        ["train.epochs=1", "train.batch=64", "train.token_budget=400", "train.max_rows=3000"],
    ),
    "intent, top 2 layers, 1 epoch": ("intent", ["train.epochs=1", "train.top_layers=2"]),
    "sentiment, 10,000 rows once": ("sentiment", ["train.epochs=1", "train.max_rows=10000"]),
    "sentiment_zh, 2 epochs": ("sentiment_zh", ["train.epochs=2"]),
    "ner, 7,000 rows once": ("ner", ["train.epochs=1", "train.max_rows=7000"]),
}


def sections(steps: int | None) -> Iterator[Section]:
    """Two tables, in fp32."""
    yield contenders(steps)
    yield forecasts(steps)


def forecasts(steps: int | None) -> Section:
    """What `check` says before a run, beside what the process of the run has held at most."""
    rows = []
    for name, (recipe, dials) in RUNS.items():
        cut = [f"train.max_rows={32 * steps}", "train.epochs=1"] if steps else []
        with TemporaryDirectory() as home:
            forecast, measured = run(recipe, [*dials, "train.precision=fp32", "gate.floors={}", *cut], Path(home))
        rows.append([name, f"{forecast:.0f}", f"{measured:.0f}", f"{forecast / measured - 1:+.0%}"])
    text = (
        "`vernal check` before anything is there, its rows sampled from the source, and the high-water mark of the "
        "process of `vernal run` on a CPU, in fp32. On CUDA nothing was measured."
    )
    return Section("Forecast of peak memory", text, ("recipe", "forecast, MB", "measured, MB", "error"), rows)


def run(recipe: str, dials: list[str], home: Path) -> tuple[float, float]:
    """MB that were forecast for a whole run, and that it took."""
    environment = os.environ | settled(home)
    given = [str(ROOT / "flows/recipes" / f"{recipe}.yaml"), *(part for dial in dials for part in ("--set", dial))]
    found = []
    for command in (["flows", "check", "--json"], ["tests.bench.memory", "run"]):
        done = subprocess.run(
            [sys.executable, "-m", *command, *given],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in (0, 3):
            raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr[-2000:]}")
        found.append(done.stdout)
    return json.loads(found[0])["memory"]["bytes"] / 1e6, json.loads(found[1].splitlines()[-1])


def settled(home: Path) -> dict[str, str]:
    """The settings of an empty home that knows MiniLM and the public datasets."""
    from tests.bench import data

    (home / "models").mkdir()
    (home / "models" / "minilm").symlink_to(data.minilm())
    places = {"HOME": str(home), "MODELS": str(home / "models"), "DATA": str(data.ROOT)}
    return {f"VERNAL_{name}": place for name, place in places.items()}


def contenders(steps: int | None) -> Section:
    """Training alone."""
    rows = []
    for batch in BATCHES:
        found = {name: measured(name, batch, steps or STEPS) for name in CONTENDERS}
        for name, (before, peak) in found.items():
            share = peak / found[CONTENDERS[0]][1]
            rows.append([name, str(batch), f"{peak:.0f}", f"{before:.0f}", f"{share:.2f}"])
    text = f"MiniLM on {DATASET}, fp32, {steps or STEPS} steps; interpreter, libraries, model and data included."
    return Section("Peak memory of training", text, HEADS, rows)


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


def whole(arguments: list[str]) -> int:
    """`vernal run` in this process; its last line is the most MB that it held."""
    from flows.__main__ import main

    status = main(["run", *arguments])
    print(high_water())
    return status


if __name__ == "__main__":
    if sys.argv[1] == "run":
        sys.exit(whole(sys.argv[2:]))
    train(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
