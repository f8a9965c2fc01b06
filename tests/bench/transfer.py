"""What pre-training is worth: the same net from its champion, and drawn at random, both fine-tuned on the same rows.

    vernal run flows/recipes/pretraining.yaml
    python -m tests.bench.transfer

`sentiment_pretrained.yaml` eight times each: a seed draws the 2,000 rows, their order and the head. Processor time: 14
minutes.
"""

import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import torch
from scipy.stats import bootstrap
from transformers import AutoConfig, AutoModel

from infra.settings import settings
from tasks import recipe, stages
from tasks.model.load import load
from tests import makers

RECIPE = Path(__file__).parents[2] / "flows" / "recipes" / "sentiment_pretrained.yaml"
SEEDS = range(8)

Bools = npt.NDArray[np.bool_]


def drawn_at_random(base: Path, folder: Path) -> Path:
    """A base of the same config and tokenizer, of which nothing was ever learned."""
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.from_pretrained(base)).save_pretrained(folder)
    for path in base.glob("tokenizer*.json"):
        shutil.copyfile(path, folder / path.name)
    return folder


def right(what: recipe.Recipe) -> Bools:
    """Which test rows are answered right by what the recipe makes."""
    report = makers.walked(settings().home, what, RECIPE.parent).report
    found = pq.read_table(stages.open_file(report.files["predictions.parquet"]))
    return np.array(found["truth"].to_pylist()) == np.array(found["predicted"].to_pylist())


def main() -> int:
    """Prints each pair and their mean gain with its interval over rows; returns 1 if that reaches down to none."""
    gains = []
    with TemporaryDirectory() as folder:
        pretrained = recipe.load(RECIPE, [])
        learned = stages.checkout(load.fn(pretrained.model, str(RECIPE.parent)).files, Path(folder, "learned"))
        drawn = drawn_at_random(learned, Path(folder, "drawn"))
        for seed in SEEDS:
            dials = [f"train.seed={seed}"]
            ours, theirs = (right(recipe.load(RECIPE, given)) for given in (dials, [*dials, f"model.base={drawn}"]))
            print(f"seed {seed}: accuracy {ours.mean():.4f} pre-trained, {theirs.mean():.4f} from scratch", flush=True)
            gains.append(ours.astype(float) - theirs)
    low, high = bootstrap((np.mean(gains, axis=0),), np.mean, rng=np.random.default_rng(0)).confidence_interval
    print(f"gain {np.mean(gains):+.4f} (95 % over rows: {low:+.4f} to {high:+.4f})")
    return int(low <= 0)


if __name__ == "__main__":
    sys.exit(main())
