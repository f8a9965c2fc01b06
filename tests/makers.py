"""Small real things: two datasets that are learned in seconds, and the records that the stages make of them."""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.settings import settings
from tasks import stages
from tasks.data.shards import Writer
from tasks.recipe import Recipe
from tasks.records import Bundle, Checked, Checkpoint, Report, Shards

SUBJECTS = {
    "billing": ("invoice", "charged", "refund", "payment", "card"),
    "delivery": ("parcel", "courier", "late", "tracking", "doorstep"),
    "praise": ("lovely", "thanks", "perfect", "wonderful", "happy"),
}
FILLING = ("my", "the", "order", "with", "please", "again", "today", "number", "about", "garden", "roses", "tools")
NAMES = {"PER": ("anna", "boris", "carla", "dmitri"), "LOC": ("oslo", "lima", "cairo")}
ENCODER = {"architecture": "encoder", "num_layers": 1, "d_model": 32, "num_heads": 2, "dropout": 0.0}


def messages(rows: int, seed: int = 0) -> list[dict[str, str]]:
    """Texts whose label is told by two of their words; one in ten has a wrong label."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        label = str(draw.choice(list(SUBJECTS)))
        words = [*draw.choice(SUBJECTS[label], 2), *draw.choice(FILLING, int(draw.integers(2, 14)))]
        shown = str(draw.choice(list(SUBJECTS))) if draw.random() < 0.1 else label
        product = str(draw.choice(["plants", "tools"]))
        found.append({"text": " ".join(draw.permutation(words)), "label": shown, "product": product})
    return found


def sentences(rows: int, seed: int = 0) -> list[dict[str, list[str]]]:
    """Rows of words in which each entity is one or two names."""
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(rows):
        words, tags = [], []
        for _ in range(int(draw.integers(2, 6))):
            words.append(str(draw.choice(FILLING)))
            tags.append("O")
            if draw.random() < 0.5:
                kind = str(draw.choice(list(NAMES)))
                names = [str(each) for each in draw.choice(NAMES[kind], int(draw.integers(1, 3)))]
                words += names
                tags += [f"B-{kind}", f"I-{kind}"][: len(names)]
        found.append({"tokens": words, "tags": tags})
    return found


def add(writer: Writer, rows: Sequence[Sequence[int]], labels: Iterable[int]) -> None:
    """Rows of token ids to a shard, and their labels: one a row, or one a token."""
    tokens = np.fromiter(chain.from_iterable(rows), np.uint32)
    writer.append(tokens, np.fromiter(map(len, rows), np.int64), np.fromiter(labels, np.int32))


def recipe(task: str = "text-classification", **sections: Any) -> Recipe:
    """A recipe for one of the datasets above, with `sections` laid over it."""
    given = {
        "name": "small",
        "task": task,
        "data": {"source": "rows.jsonl", "split": {"validation": 0.2, "test": 0.3}},
        "rules": {"duplicates": "keep", "leaks": "keep"},
        "tokens": {"length": 24, "tokenizer": {"train": "wordpiece", "vocabulary": 200}},
        "model": {"base": ENCODER},
        "train": {"epochs": 4, "batch": 16, "learning_rate": 3e-3, "precision": "fp32"},
    }
    return Recipe.model_validate_json(json.dumps({**given, **sections}))


@dataclass(frozen=True)
class Made:
    """A recipe and the records of its stages up to the report, in a home of their own."""

    home: Path
    recipe: Recipe
    checked: Checked
    base: Checkpoint
    shards: Shards
    trained: Checkpoint
    bundle: Bundle
    report: Report

    def folder(self, record: Any, where: Path) -> Path:
        """The files of a record, laid out below `where`."""
        return stages.checkout(record.files, where / record.digest[7:15])


@contextmanager
def at_home(home: Path, mlflow: str = "http://127.0.0.1:1") -> Iterator[None]:
    """VERNAL_HOME is `home`, inside; no registry answers, unless one is named."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VERNAL_HOME", str(home))
        patch.setenv("VERNAL_MLFLOW", mlflow)
        patch.setenv("VERNAL_DEVICE", "cpu")
        settings.cache_clear()
        stages.artifacts.cache_clear()
        yield
    settings.cache_clear()
    stages.artifacts.cache_clear()


def rows_of(task: str, rows: int, folder: Path) -> Path:
    """`rows.jsonl` in `folder`, with a dataset for the task."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = messages(rows) if task == "text-classification" else sentences(rows)
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def made(home: Path, what: Recipe, rows: int = 300) -> Made:
    """The records of `what` over one of the datasets above; to be called with VERNAL_HOME at `home`."""
    import torch

    assert os.environ["VERNAL_HOME"] == str(home)
    torch.set_num_threads(1)  # threads that wait for each other take ten times as long over a model of this size
    beside = home.parent / "recipe"
    rows_of(what.task, rows, beside)
    return walked(home, what, beside)


def walked(home: Path, what: Recipe, beside: Path) -> Made:
    """The records of a recipe in the folder `beside`, made by the verbs' plain functions."""
    from tasks.data.ingest import ingest
    from tasks.data.tokenise import tokenise
    from tasks.data.validate import validate
    from tasks.model.evaluate import evaluate
    from tasks.model.finetune import finetune
    from tasks.model.load import load
    from tasks.model.package import package

    snapshot = ingest.fn(what.data, what.task, str(beside))
    checked = validate.fn(snapshot, what.task, what.data, what.rules)
    base = load.fn(what.model, str(beside))
    shards = tokenise.fn(checked, base, what.task, what.tokens)
    trained = finetune.fn(base, shards, what.task, what.train, what.name, what.digest)
    bundle = package.fn(trained, shards, checked, what.task, what.package)
    report = evaluate.fn(bundle, checked, what.metric, what.exam)
    return Made(home, what, checked, base, shards, trained, bundle, report)
