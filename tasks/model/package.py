"""Trained Checkpoint -> Bundle: the one artifact that is examined, registered and served."""

import json
import logging
from itertools import islice
from pathlib import Path
from shutil import copyfile
from typing import Any

from safetensors.torch import load_file, save_file

from tasks import problems, recipe, stages
from tasks.data import examples
from tasks.model import bundle, own
from tasks.problems import Problem
from tasks.records import Bundle, Checked, Checkpoint, Shards
from tasks.verb import verb

log = logging.getLogger("vernal.package")


@verb
def package(trained: Checkpoint, data: Shards, checked: Checked, task: recipe.Task, how: recipe.Package) -> Bundle:
    """The trained model in the recipe's precision, with its limits and golden inputs."""
    key = stages.package(trained, data, checked, task, how)
    return stages.once(key, lambda folder: pack(folder, trained, data, checked, task, how))


def pack(
    folder: Path, trained: Checkpoint, data: Shards, checked: Checked, task: recipe.Task, how: recipe.Package
) -> Bundle:
    """Lays the bundle out in `folder`, lets it answer the golden inputs, and keeps it."""
    there = stages.checkout(trained.files, folder / "trained")
    made = folder / "bundle"
    made.mkdir()
    for name in trained.files:
        if name != "history.jsonl":
            convert(there / name, made / name, how.precision)
    describe(made, data, task, how, golden=[])
    inputs = golden_inputs(stages.open_file(checked.files["validation.parquet"]), problems.named(task), how.golden)
    answers = bundle.Model.load(made).sit(inputs)
    pairs = zip(inputs, answers, strict=True)
    golden = [{"input": row, "answer": answer.answer, "score": answer.score} for row, answer in pairs]
    describe(made, data, task, how, golden)
    files = stages.keep(made)
    size = sum(file.size for file in files.values())
    log.info("%s, %.1f MB, %d golden inputs", how.precision, size / 1e6, len(golden))
    return Bundle.of(
        files,
        parents=(trained.digest, data.digest, checked.digest),
        task=task,
        labels=data.labels,
        precision=how.precision,
        bytes_total=size,
    )


def convert(source: Path, target: Path, precision: str) -> None:
    """Copies a file; weights become numbers of `precision`, and the config says so."""
    if precision == "bf16" and source.suffix == ".safetensors":
        tensors = load_file(source)
        tensors |= {name: each.bfloat16() for name, each in tensors.items() if each.is_floating_point()}
        save_file(tensors, target, metadata={"format": "pt"})
    elif precision == "bf16" and source.name == "config.json":
        config = json.loads(source.read_bytes()) | {"dtype": "bfloat16"}
        target.write_text(json.dumps(config, indent=2, sort_keys=True))
    else:
        copyfile(source, target)


def describe(folder: Path, data: Shards, task: recipe.Task, how: recipe.Package, golden: list[dict[str, Any]]) -> None:
    """Writes `bundle.json`."""
    description = {
        "format": bundle.FORMAT,
        "task": task,
        "labels": data.labels,
        "length": data.length,
        "precision": how.precision,
        "golden": golden,
        **own.listing(folder),
    }
    if problems.named(task).generates:
        description["decoding"] = how.decoding.model_dump(mode="json")
    (folder / "bundle.json").write_text(json.dumps(description, indent=1, ensure_ascii=False))


def golden_inputs(validation: Path, problem: Problem, count: int) -> list[dict[str, Any]]:
    """The first rows of the validation split, as an exam shows them."""
    return [problem.asked(row) for row in islice(examples.rows(validation, problem), count)]
