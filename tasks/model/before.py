"""What the base does without fine-tuning, on the rows of the exam, so that a report shows what fine-tuning bought.

Asked as it is (zero-shot): by its own head, where its weights have one for the task, as a champion has that is trained
again; or which answer is the likeliest to follow the row, where a language model is trained for labels or choices. And
where rows have one label: a linear model over the means of its states that has seen a few training rows of each
(few-shot).
"""

import json
import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from tasks import fits, problems, stages
from tasks.data import batches, shards
from tasks.data.shards import Shard
from tasks.model import ancestry, architectures, hardware, linear_probe
from tasks.model.bundle import Model
from tasks.model.exam import Exam
from tasks.recipe import Task
from tasks.records import Bundle, Shards

SHOTS = 16  # rows of each label
MOST = 20_000  # times that a language model reads a row, once with each answer that it may have

ZERO, FEW = "before fine-tuning", f"few-shot, {SHOTS} rows a label"
TOLD = "before fine-tuning, the likeliest to follow"

TELLING = "instruction"  # the task of a prompt and what follows it

Posed = tuple[str, dict[str, Any]]  # a prompt, and texts that may follow it, each with the answer that it is

log = logging.getLogger("vernal.evaluate")


def answers(folder: Path, bundle: Bundle, exam: Exam, test: Shard | None) -> Iterator[tuple[str, list[Any]]]:
    """Name and answers of each way in which the bundle's base can be asked.

    It lies in `bundle` of the folder; `test` are the rows of the exam in its tokens; None of a language model.

    What has no weights before it is trained, or is a module of the user's own, is not asked.
    """
    base = ancestry.base_of(bundle)
    if not base.parameters or base.architecture == fits.MODULE:
        return
    there = stages.checkout(base.files, folder / "base")
    if architectures.answers_already(there, bundle.task, bundle.labels):
        log.info("%s: %d test rows", ZERO, len(exam.rows))
        yield ZERO, exam.sat_by(as_it_is(folder / "before", folder / "bundle", there, bundle.task)).predicted
    elif (asked := posed(exam, bundle.labels)) and tells(there):
        log.info("%s: %d test rows", TOLD, len(exam.rows))
        yield TOLD, likeliest(as_it_is(folder / "before", folder / "bundle", there, TELLING), asked)
    if test is not None and list(exam.problem.answers.values()) == ["label"]:
        data = stages.by_digest("tokenise", Shards, bundle.parents[1])
        train = shards.read(stages.checkout(data.files, folder / "shards") / "train")
        log.info("%s: %d test rows", FEW, len(exam.rows))
        yield FEW, few_shot(there, train, test, bundle)


def posed(exam: Exam, labels: tuple[str, ...]) -> list[Posed]:
    """The rows as a language model can be asked; none, where their answers cannot be listed, or are too many in all."""
    found = [each for row in exam.rows if (each := exam.problem.posed(row, labels))]
    whole = len(found) == len(exam.rows) and sum(len(choices) for _, choices in found) <= MOST
    return found if whole else []


def tells(base: Path) -> bool:
    """Whether the base is a language model that tells each token from those before it."""
    config = json.loads((base / "config.json").read_text())
    return not fits.unfit(problems.named(TELLING), config) and architectures.answers_already(base, TELLING, ())


def likeliest(model: Model, rows: Sequence[Posed]) -> list[Any]:
    """For each prompt the answer whose text has the greatest mean ln p of its tokens behind it.

    The mean, and not the sum, so that an answer of many tokens can win (Brown et al. 2020, section 2.4).
    """
    told = iter(model.sit([{"prompt": prompt, "answer": text} for prompt, choices in rows for text in choices]))
    found = []
    for _, choices in rows:
        nats = [each.answer["nats"] / each.answer["tokens"] for each in islice(told, len(choices))]
        found.append(list(choices.values())[int(np.argmin(nats))])
    return found


def as_it_is(folder: Path, bundle: Path, base: Path, task: Task) -> Model:
    """The base with the tokenizer and the description of the bundle that was made of it, laid out in `folder`."""
    folder.mkdir()
    for path in base.iterdir():
        if path.name not in stages.TOKENIZER_FILES:
            copyfile(path, folder / path.name)
    for name in stages.TOKENIZER_FILES:
        if (bundle / name).exists():
            copyfile(bundle / name, folder / name)
    described = json.loads((bundle / "bundle.json").read_text()) | {"task": task, "precision": "fp32", "golden": []}
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
