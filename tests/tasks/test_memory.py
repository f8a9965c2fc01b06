"""A corpus that is much larger than the memory that it takes, from its rows to an examined model.

Measured: 820 MB at the peak with 32 MB of texts, 912 MB with 400; before it reads a row, the process has 500.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SMALL, LARGE, GROWTH = 32, 400, 150  # MB
SECTIONS: dict[str, Any] = {
    "data": {"source": {split: f"{split}.jsonl" for split in ("train", "validation", "test")}},
    "rules": {},
    "tokens": {"length": 128, "tokenizer": {"train": "byte-bpe", "vocabulary": 6000, "lowercase": False}},
    "train": {"epochs": 1, "batch": 16, "max_rows": 128, "precision": "fp32"},
}
WALK = """
import json, sys
from pathlib import Path
import torch
from tests import makers
torch.set_num_threads(1)
beside, sections = Path(sys.argv[1]), json.loads(sys.argv[2])
with makers.at_home(beside / "home"):
    made = makers.walked(beside / "home", makers.recipe("masked-language-modelling", **sections), beside)
print(json.dumps([made.shards.tokens["train"], made.trained.steps]))
print(Path("/proc/self/status").read_text())
"""


def texts(megabytes: float, seed: int) -> Iterator[str]:
    """Lines of JSON, each a text of a hundred long words."""
    draw, spell = np.random.default_rng(seed), np.random.default_rng(0)
    words = np.array(["".join(spell.choice(list("aeioulnrst"), 20)) for _ in range(300)])
    written = 0
    while written < megabytes * 1e6:
        line = json.dumps({"text": " ".join(draw.choice(words, 100))}) + "\n"
        written += len(line)
        yield line


def peak(megabytes: int) -> float:
    """MB that a process held at most while it went the whole way with a corpus of this size."""
    with TemporaryDirectory() as folder:
        for seed, (split, size) in enumerate((("train", megabytes), ("validation", 0.4), ("test", 0.4))):
            with (Path(folder) / f"{split}.jsonl").open("w") as file:
                file.writelines(texts(size, seed))
        done = subprocess.run(
            [sys.executable, "-c", WALK, folder, json.dumps(SECTIONS)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-2000:]
    tokens, steps = json.loads(done.stdout.splitlines()[0])
    assert tokens > megabytes * 1e6 / 100
    assert steps == 8
    held = re.search(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert held
    return int(held[1]) * 1024 / 1e6


@pytest.mark.matrix
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
def test_a_corpus_many_times_as_large_takes_little_more_memory() -> None:
    assert peak(LARGE) - peak(SMALL) < GROWTH
