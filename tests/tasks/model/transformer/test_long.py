"""Long rows: faster than an LSTM, nothing is forgotten on the way, and memory grows with their length only."""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch
import transformers as hf
from torch import nn

from tests.tasks.model.transformer import made

pytestmark = pytest.mark.matrix
ROOT = Path(__file__).parents[4]
MEMORY = 150  # MB that a forward and backward pass of 2 rows of 2,048 tokens may take; their scores alone are 268
ROWS_OF_2048 = """
import torch, transformers as hf
from tests.tasks.model.transformer import made
def peak():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))) / 1000
model = made.model(hf.AutoModelForCausalLM, "decoder", d_model=64, max_length=2048).train()
for tokens in (16, 2048):
    before = peak()
    model(made.ids(2, tokens), labels=made.ids(2, tokens)).loss.backward()
print(peak() - before)
"""


class Recurrent(nn.Module):
    """An LSTM (Hochreiter and Schmidhuber 1997) in the place of a Transformer."""

    def __init__(self, vocabulary: int, width: int, layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.classifier = nn.Linear(width, 2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(batch, labels) of ids (batch, tokens)"""
        logits: torch.Tensor = self.classifier(self.lstm(self.embed(ids))[0].mean(1))
        return logits


def step(model: Any, ids: torch.Tensor) -> float:
    """Processor time of a forward and backward pass."""
    began = time.process_time()
    found = model(ids)
    getattr(found, "logits", found).square().sum().backward()
    return time.process_time() - began


def test_a_row_of_512_tokens_is_learned_faster_than_by_an_lstm_of_as_many_parameters() -> None:
    """One row, since many side by side give an LSTM on one core the large products that a Transformer has anyway."""
    ours = made.model(hf.AutoModelForSequenceClassification, "encoder", d_model=512, dff=1024, max_length=512).train()
    theirs = Recurrent(60, 572, 2)
    counts = [sum(each.numel() for each in model.parameters()) for model in (ours, theirs)]
    assert counts[0] == pytest.approx(counts[1], rel=0.02)
    ids = made.ids(1, 512)
    pairs = [(step(ours, ids), step(theirs, ids)) for _ in range(9)]
    assert median(lstm / attention for attention, lstm in pairs[1:]) > 1


def test_a_needle_is_found_among_1024_tokens() -> None:
    """One of four needles lies anywhere in a row of hay; the last token alone is read, and has to look back for it."""
    sizes = {"num_layers": 1, "num_heads": 1, "max_length": 1024, "initializer_range": 0.02}
    model = made.model(hf.AutoModelForSequenceClassification, "decoder", num_labels=4, **sizes).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    draw = torch.Generator().manual_seed(0)

    def rows(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        hay = torch.full((count, 1024), 10)
        needles = torch.randint(0, 4, (count,), generator=draw)
        places = torch.randint(0, 1000, (count, 1), generator=draw)
        return hay.scatter(1, places, needles[:, None] + 5), needles

    for _ in range(120):
        ids, needles = rows(16)
        optimizer.zero_grad()
        model(ids, labels=needles).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    ids, needles = rows(64)
    with torch.no_grad():
        found = model.eval()(ids).logits.argmax(1)
    assert (found == needles).float().mean() > 0.95


def test_rows_of_2048_tokens_are_learned_within_the_stated_memory() -> None:
    done = subprocess.run([sys.executable, "-c", ROWS_OF_2048], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout.split()[-1]) < MEMORY
