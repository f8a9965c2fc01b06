"""What the base does without fine-tuning, on the rows of the exam, so that a report shows what fine-tuning bought.

Asked as it is (zero-shot), where its weights have a head for the task: a language model, or a champion that is trained
again. And where rows have one label: a linear model over the means of its states that has seen a few training rows of
each (few-shot).
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from tasks import fits, stages
from tasks.data import batches, shards
from tasks.data.shards import Shard
from tasks.model import architectures, hardware, linear_probe
from tasks.model.bundle import Model
from tasks.model.exam import Exam
from tasks.records import Bundle, Checkpoint, Shards

SHOTS = 16  # rows of each label

ZERO, FEW = "before fine-tuning", f"few-shot, {SHOTS} rows a label"

log = logging.getLogger("vernal.evaluate")


def answers(folder: Path, bundle: Bundle, exam: Exam) -> Iterator[tuple[str, list[Any]]]:
    """Name and answers of each way in which the bundle's base can be asked; the bundle lies in `bundle` of the folder.

    What has no weights before it is trained, or is a module of the user's own, is not asked.
    """
    trained = stages.by_digest("finetune", Checkpoint, bundle.parents[0])
    base = stages.by_digest("load", Checkpoint, trained.parents[0])
    if not base.parameters or base.architecture == fits.MODULE:
        return
    there = stages.checkout(base.files, folder / "base")
    if architectures.answers_already(there, bundle.task, bundle.labels):
        log.info("%s: %d test rows", ZERO, len(exam.rows))
        yield ZERO, exam.sat_by(as_it_is(folder / "before", folder / "bundle", there)).predicted
    if list(exam.problem.answers.values()) == ["label"]:
        data = stages.by_digest("tokenise", Shards, bundle.parents[1])
        stages.checkout(data.files, folder / "shards")
        log.info("%s: %d test rows", FEW, len(exam.rows))
        train, test = (shards.read(folder / "shards" / split) for split in ("train", "test"))
        yield FEW, few_shot(there, train, test, bundle)


def as_it_is(folder: Path, bundle: Path, base: Path) -> Model:
    """The base with the tokenizer and the description of the bundle that was made of it, laid out in `folder`."""
    folder.mkdir()
    for path in base.iterdir():
        if path.name not in stages.TOKENIZER_FILES:
            copyfile(path, folder / path.name)
    for name in stages.TOKENIZER_FILES:
        if (bundle / name).exists():
            copyfile(bundle / name, folder / name)
    described = json.loads((bundle / "bundle.json").read_text()) | {"precision": "fp32", "golden": []}
    (folder / "bundle.json").write_text(json.dumps(described))
    return Model.load(folder, hardware.chosen())


def few_shot(base: Path, train: Shard, test: Shard, bundle: Bundle) -> list[str]:
    """The labels that a linear model over the base's states gives to the test rows."""
    body = AutoModel.from_pretrained(base, dtype=torch.float32, local_files_only=True).to(hardware.chosen()).eval()
    order = np.random.default_rng(0).permutation(len(train))
    known = train.labels[order]
    shown = np.concatenate([order[known == label][:SHOTS] for label in np.unique(known)])
    fitted = linear_probe.fitted(linear_probe.states(body, batches.taken(train, shown)), train.labels[shown])
    return [bundle.labels[number] for number in fitted.predict(linear_probe.states(body, test))]
