"""Classifying a test split in one go: our bundle against the ways of transformers, tokenisation included.

All must give the same label to every row; the model is fine-tuned a little first, so that its labels differ by more
than rounding.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from tasks.data import batches
from tasks.model import bundle
from tests.bench import data, flops, trainers
from tests.bench.dials import how
from tests.bench.paired import READY, Taken, run, total
from tests.bench.results import Section
from tests.bench.roofline import Peak

BATCH, LEARNT = 32, 30  # rows and steps of the fine-tuning
CHUNK = 512  # rows of a turn
ONE_BY_ONE = "pipeline, one by one"
HEADS = ("contender", "× faster, CPU time", "× faster, wall", "rows/s", "useful GFLOP/s", "of fp32 GEMM peak")

Way = Callable[[list[str]], list[str]]


def sections(steps: int | None) -> Iterator[Section]:
    """A table for each dataset; `steps` of training and chunks of 16 rows cut it short."""
    for dataset in data.DATASETS:
        with TemporaryDirectory() as folder:
            learnt(dataset, Path(folder), steps or LEARNT)
            yield section(dataset, Path(folder), steps)


def learnt(dataset: str, folder: Path, steps: int) -> None:
    """A bundle in `folder`, of a model after a few steps."""
    model = data.pretrained(dataset)
    quick = how(BATCH, "fp32").model_copy(update={"learning_rate": 3e-4})
    shard = data.shard(dataset, BATCH * steps)
    assert sum(1 for _ in trainers.steps(model, shard, quick, "grouped", data.tokenizer())) == steps + 1
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        copyfile(data.minilm() / name, folder / name)
    described = {"task": "text-classification", "precision": "fp32", "length": data.LENGTH}
    (folder / "bundle.json").write_text(json.dumps({**described, "labels": data.names(dataset)}))


def section(dataset: str, folder: Path, steps: int | None) -> Section:
    """The test split by everybody, a chunk each in turn."""
    split, chunk = data.read(dataset, "test"), 16 if steps else CHUNK
    chunks = [split.texts[start : start + chunk] for start in range(0, len(split.texts), chunk)][:steps]
    found: dict[str, list[str]] = {}
    peak = Peak()
    ways = {ONE_BY_ONE: one_by_one(folder), "padded batches by length": by_length(folder), "Vernal": ours(folder)}
    turns = run({name: classified(way, chunks, found.setdefault(name, [])) for name, way in ways.items()}, peak.sample)
    for name, labels in found.items():
        differ = sum(one != other for one, other in zip(labels, found[ONE_BY_ONE], strict=True))
        assert not differ, f"{name}: {differ} of {len(labels)} labels differ from those of {ONE_BY_ONE}"
    rows = len(found["Vernal"])
    right = sum(label == true for label, true in zip(found["Vernal"], split.labels, strict=False)) / rows
    lengths = data.encoded(dataset, split).lengths[:rows]
    useful, base = flops.forward(data.pretrained(dataset).config, lengths), total(turns[ONE_BY_ONE])
    lines = []
    for name, own in ((name, total(taken)) for name, taken in turns.items()):
        rate = useful / own.cpu / 1e9
        ratios = [f"{base.cpu / own.cpu:.2f}", f"{base.wall / own.wall:.2f}"]
        share = f"{rate / peak.best[torch.float32]:.0%}"
        lines.append([name, *ratios, f"{own.rows / own.cpu:.1f}", f"{rate:.1f}", share])
    text = (
        f"MiniLM, fp32, {rows} test rows of {lengths.mean():.1f} tokens, alternating by {chunk} rows, tokenisation "
        f"included; all labels are the same (accuracy {right:.3f} after {steps or LEARNT} steps)."
    )
    return Section(f"Evaluation and batch inference: {dataset}", text, HEADS, lines)


def classified(way: Way, chunks: list[list[str]], found: list[str]) -> Iterator[Taken]:
    """A way of predicting as a contender; its labels go to `found`."""
    way(chunks[0][:8])
    yield READY
    for chunk in chunks:
        found += way(chunk)
        yield Taken(len(chunk), 0)


def ours(folder: Path) -> Way:
    model = bundle.Model.load(folder)
    return lambda texts: [str(each.answer) for each in model.predict(texts)]


def one_by_one(folder: Path) -> Way:
    pipe = pipeline("text-classification", model=str(folder), device="cpu")
    limits = {"truncation": True, "max_length": data.LENGTH}
    return lambda texts: [str(pipe(text, **limits)[0]["label"]) for text in texts]


def by_length(folder: Path) -> Way:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(folder, local_files_only=True).eval()

    @torch.inference_mode()
    def predict(texts: list[str]) -> list[str]:
        ids = tokenizer(texts, truncation=True, max_length=data.LENGTH)["input_ids"]
        labels = [""] * len(texts)
        for rows in batches.by_budget([len(row) for row in ids], batches.AT_ONCE["cpu"]):
            padded = tokenizer.pad({"input_ids": [ids[row] for row in rows]}, return_tensors="pt")
            best = model(**padded).logits.argmax(-1).tolist()
            for row, label in zip(rows, best, strict=True):
                labels[row] = model.config.id2label[label]
        return labels

    return predict
