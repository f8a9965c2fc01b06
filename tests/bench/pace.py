"""What `advise` says of a fine-tuning's processor time, beside what it then takes: a process for each."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.bench.memory import ROOT, settled
from tests.bench.results import Section

BPE = "tokens.tokenizer={train: bpe, vocabulary: 8000}"
SMALL = "model.base={architecture: encoder, num_layers: 2, d_model: 128, num_heads: 2}"
LARGER = "model.base={architecture: encoder, num_layers: 4, d_model: 256, num_heads: 4}"
RUNS = {  # recipe, and what its fine-tuning is cut to or otherwise done with
    "intent, MiniLM, 1 epoch": ("intent", ["train.epochs=1"]),
    "intent, 2 layers of width 128, 3 epochs": ("intent", [BPE, SMALL, "train.epochs=3"]),
    "intent, 4 layers of width 256, 1 epoch": ("intent", [BPE, LARGER, "train.epochs=1"]),
    "intent, MiniLM, top layer, 3 epochs": ("intent", ["train.epochs=3", "train.top_layers=1"]),
    "sentiment, MiniLM, 4,000 rows once": ("sentiment", ["train.epochs=1", "train.max_rows=4000"]),
    "sentiment, 4 layers of width 256, 6,000 rows once": (
        "sentiment",
        [BPE, LARGER, "train.epochs=1", "train.max_rows=6000"],
    ),
}


def sections(steps: int | None) -> Iterator[Section]:
    """One table, in fp32."""
    rows = []
    for name, (recipe, dials) in RUNS.items():
        cut = [f"train.max_rows={32 * steps}", "train.epochs=1"] if steps else []
        with TemporaryDirectory() as home:
            told, took = compared(recipe, [*dials, "train.precision=fp32", "train.early_stopping=0", *cut], Path(home))
        rows.append([name, f"{told:.0f}", f"{took:.0f}", f"{told / took - 1:+.0%}"])
    text = (
        "Processor seconds of the fine-tuning, told by a few of its steps and then taken, in one process after another."
    )
    yield Section("Time that is told before", text, ("recipe", "told, s", "took, s", "error"), rows)


def compared(recipe: str, dials: list[str], home: Path) -> tuple[float, float]:
    """Processor seconds that were told, and taken."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.pace", str(ROOT / "flows/recipes" / f"{recipe}.yaml"), *dials],
        cwd=ROOT,
        env=os.environ | settled(home),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{recipe} ended with {done.returncode}: {done.stderr[-2000:]}")
    told, took = json.loads(done.stdout.splitlines()[-1])
    return told, took


def tell_and_take(path: Path, dials: list[str]) -> tuple[float, float]:
    """What a process of its own does."""
    from flows.advise import job_of
    from tasks import recipe, stages
    from tasks.data.ingest import ingest
    from tasks.data.tokenise import tokenise
    from tasks.data.validate import validate
    from tasks.model.load import load
    from tasks.model.pace import measure, now
    from tasks.model.training import lay_out, train
    from tasks.model.world import ALONE

    what, beside = recipe.load(path, dials), str(path.parent)
    checked = validate.fn(ingest.fn(what.data, what.task, beside), what.task, what.data, what.rules)
    base = load.fn(what.model, beside)
    with stages.workplace("pace") as folder:
        job = job_of(what, base, tokenise.fn(checked, base, what.task, what.tokens), "pace")
        lay_out(folder, job)
        told = measure(folder, job)
        began = now()
        train(folder, job, ALONE)
        return told.cpu_seconds, float((now() - began)[1])


if __name__ == "__main__":
    print(json.dumps(tell_and_take(Path(sys.argv[1]), sys.argv[2:])))
