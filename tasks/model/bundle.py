"""The Bundle, opened: a model that takes rows and gives answers, as the exam, the gate and the endpoint use it.

A bundle is a plain Hugging Face directory (config, safetensors, tokenizer) with `bundle.json`: task, labels, length
limit and golden inputs with the outputs that they had when it was packaged. Every reader of a bundle goes through here,
so that what is examined is what is served.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tasks import problems
from tasks.data import batches, tokenisers
from tasks.data.corruption import Corruption
from tasks.encoding import Encoded, Encoder
from tasks.errors import Corrupt
from tasks.model import architectures, hardware
from tasks.model.forward import Forward
from tasks.model.generation import written
from tasks.problems.contract import Floats, Prediction, Problem, Row
from tasks.recipe import Decoding

FORMAT = 3  # of bundle.json: 2 calls answers so, and no longer labels; 3 gives tags of a row that are valid together
GOLDEN_TOLERANCE = 1e-3  # of a probability or a number: what another kind of processor may differ by


@dataclass(frozen=True)
class Model:
    """A Bundle in memory, ready to predict."""

    problem: Problem
    forward: Forward
    encoder: Encoder
    labels: tuple[str, ...]
    decoding: Decoding
    golden: tuple[dict[str, Any], ...] = ()
    format: int = FORMAT

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Model":
        """The bundle in `folder`, whose files were verified by whoever laid them out."""
        description = json.loads((folder / "bundle.json").read_text())
        problem, labels = problems.named(description["task"]), tuple(description["labels"])
        model = architectures.pretrained(folder, description["task"], labels, seed=0)
        if description["precision"] == "bf16":
            model = model.bfloat16()
        hardware.share_cores(model.num_parameters())
        tokenizer, length = tokenisers.read(folder), description["length"]
        corruption = Corruption.by(tokenizer, seed=0) if problem.corrupted else None
        model = model.eval().to(device)  # type: ignore[no-untyped-call]
        return cls(
            problem=problem,
            forward=Forward(model, device, reads=problem.reads, corruption=corruption),
            encoder=tokenisers.encoder(tokenizer, length, problem, model.config.to_dict()),
            labels=labels,
            decoding=Decoding(**description.get("decoding", {})),
            golden=tuple(_answered(each) for each in description.get("golden", ())),
            format=description.get("format", 1),
        )

    @property
    def room(self) -> int:
        """Tokens of a row that are left for what goes on from it: at most half of them."""
        return min(self.decoding.length, self.encoder.length // 2)

    def predict(self, rows: Sequence[Any]) -> list[Prediction]:
        """The answer to each row, in their order; a problem of one input takes its values as they are."""
        return self.problem.answer(self, self._whole(rows)) if rows else []

    def sit(self, rows: Sequence[Any]) -> list[Prediction]:
        """The answer to each row of an exam, in their order."""
        return self.problem.examined(self, self._whole(rows)) if rows else []

    def _whole(self, rows: Sequence[Any]) -> list[Row]:
        only = next(iter(self.problem.inputs))
        return [row if isinstance(row, Mapping) else {only: row} for row in rows]

    def outputs(self, encoded: Encoded) -> list[Floats]:
        """What the head says of each sequence: (outputs,), or (tokens, outputs).

        Those of near length are computed together.
        """
        found: list[Floats] = [np.empty(0)] * len(encoded.lengths)
        spans = encoded.spans()
        with self.forward.examined():
            for places in self.forward.at_once(encoded.lengths):
                rows = [encoded.tokens[spans[place]] for place in places]
                types = None if encoded.types is None else [encoded.types[spans[place]] for place in places]
                logits = self.forward(batches.of_rows(rows, self.forward.pad, types)).cpu().numpy()
                ends = np.cumsum(encoded.lengths[places])[:-1]
                parts = list(logits) if self.problem.reads == "rows" else np.split(logits, ends)
                for place, row in zip(places, parts, strict=True):
                    found[place] = row
        return found

    def likelihoods(self, encoded: Encoded) -> Floats:
        """How probable the labels of each sequence are, (sequences, 3): sum of -ln p, labels, and those told right.

        Of a masked language model, the labels are the tokens that are hidden.
        """
        found = np.zeros((len(encoded.lengths), 3))
        spans = encoded.spans()
        with self.forward.examined():
            for places in self.forward.at_once(encoded.lengths):
                batch = batches.of_rows([encoded.tokens[spans[place]] for place in places], self.forward.pad)
                if self.forward.corruption:
                    batch = self.forward.corruption.of(batch, places)
                else:
                    assert encoded.labels is not None
                    labels = np.concatenate([encoded.labels[spans[place]] for place in places])
                    batch = batches.labelled(batch._replace(labels=labels))
                chances = self.forward(batch).log_softmax(-1).cpu()
                true = torch.from_numpy(batch.labels)
                said = torch.stack([-chances.gather(1, true[:, None])[:, 0], chances.argmax(1) == true], 1).double()
                row = np.repeat(places, batch.lengths)[batch.read]
                np.add.at(found, row, np.insert(said.numpy(), 1, 1, axis=1))
        return found

    def generated(self, encoded: Encoded) -> list[str]:
        """What is written for each row, or goes on from it, as the recipe's decoding says."""
        with self.forward.examined(), self.forward.unpacked() as model:
            ids = written(model, encoded, self.decoding, self.forward.device, architectures.length_of(model.config))
        return [self.encoder.tokenizer.decode(each).strip() for each in ids]

    def check(self) -> None:
        """Computes the golden inputs again.

        Raises:
            Corrupt: E-GOLDEN, an output is not the one that the bundle was packaged with.
        """
        for golden, now in zip(self.golden, self.sit([each["input"] for each in self.golden]), strict=True):
            if not (_same(golden["answer"], now.answer) and _same(golden["score"], now.score)):
                raise Corrupt(
                    "E-GOLDEN",
                    f"golden input {golden['input']!r:.60} gives {now.answer!r:.40} ({now.score!r:.20}), packaged with "
                    f"{golden['answer']!r:.40} ({golden['score']!r:.20}); this is not the model that was examined: "
                    "package it again",
                )


def _answered(golden: dict[str, Any]) -> dict[str, Any]:
    """A golden input with its answer, which bundles of format 1 call a label: such a one may still be champion."""
    return {"answer": golden["label"], **golden} if "label" in golden else golden


def _same(one: Any, other: Any) -> bool:
    """Whether two answers, or their scores, are the same but for what processors differ by."""
    if isinstance(one, float) and isinstance(other, float):
        return bool(np.isclose(one, other, rtol=GOLDEN_TOLERANCE, atol=GOLDEN_TOLERANCE))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
