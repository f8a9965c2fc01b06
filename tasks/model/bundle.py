"""The Bundle, opened: a model that takes text and gives labels, as the exam, the gate and the endpoint use it.

A bundle is a plain Hugging Face directory (config, safetensors, tokenizer) with `bundle.json`: task, labels, length
limit and golden inputs with the outputs that they had when it was packaged. Every reader of a bundle goes through here,
so that what is examined is what is served.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Encoding
from transformers import PreTrainedModel

from tasks.data import batches, tokenisers
from tasks.errors import Corrupt
from tasks.model import architectures, hardware
from tasks.model.forward import Forward

GOLDEN_TOLERANCE = 1e-3  # of a probability: what another kind of processor may differ by

Row = str | Sequence[str]  # a text, or its words
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Prediction:
    """A label with its probability, or for words a list of tags with theirs.

    Words that the model did not see, since the length limit cut them off or the tokenizer makes nothing of them, get
    `O` (the first label, where there is no `O`) and probability 0.
    """

    label: str | list[str]
    score: float | list[float]
    truncated: bool = False


class Model:
    """A Bundle in memory, ready to predict."""

    def __init__(self, model: PreTrainedModel, tokenizer: Any, description: dict[str, Any], device: str) -> None:
        self.words: bool = description["task"] == "token-classification"
        self.forward = Forward(model.eval().to(device), device, reads="tokens" if self.words else "rows")  # type: ignore[no-untyped-call]
        self.labels: tuple[str, ...] = tuple(description["labels"])
        self.outside = "O" if "O" in self.labels else self.labels[0]
        self.golden: list[dict[str, Any]] = description.get("golden", [])
        self.tokenizer = tokenisers.limited(tokenizer, description["length"], self.words)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Model":
        """The bundle in `folder`, whose files were verified by whoever laid them out."""
        description = json.loads((folder / "bundle.json").read_text())
        labels = tuple(description["labels"])
        model = architectures.pretrained(folder, description["task"], labels, seed=0)
        if description["precision"] == "bf16":
            model = model.bfloat16()
        hardware.share_cores(model.num_parameters())
        return cls(model, tokenisers.read(folder), description, device)

    def predict(self, rows: Sequence[Row]) -> list[Prediction]:
        """The prediction for each row, in their order; rows of near length are computed together."""
        encodings = tokenisers.encode(self.tokenizer, list(rows), self.words) if rows else []
        found: list[Prediction | None] = [None] * len(rows)
        for places, chances in self._probabilities(encodings):
            for place, chance in zip(places, chances, strict=True):
                found[place] = self._decoded(rows[place], encodings[place], chance)
        return [each for each in found if each is not None]

    def check(self) -> None:
        """Computes the golden inputs again.

        Raises:
            Corrupt: E-GOLDEN, an output is not the one that the bundle was packaged with.
        """
        for golden, now in zip(self.golden, self.predict([each["input"] for each in self.golden]), strict=True):
            if not np.allclose(golden["score"], now.score, atol=GOLDEN_TOLERANCE) or golden["label"] != now.label:
                raise Corrupt(
                    "E-GOLDEN",
                    f"golden input {golden['input']!r:.60} gives {now.label!r:.40} ({now.score!r:.20}), packaged with "
                    f"{golden['label']!r:.40} ({golden['score']!r:.20}); this is not the model that was examined: "
                    "package it again",
                )

    def _probabilities(self, encodings: list[Encoding]) -> Iterator[tuple[npt.NDArray[np.int64], Sequence[Floats]]]:
        rows = [each.ids for each in encodings]
        with self.forward.examined():
            for places in self.forward.at_once([len(row) for row in rows]):
                batch = batches.of_rows([rows[place] for place in places], self.forward.pad)
                chances = torch.softmax(self.forward(batch), -1).cpu().numpy()
                yield places, np.split(chances, np.cumsum(batch.lengths)[:-1]) if self.words else list(chances)

    def _decoded(self, row: Row, encoding: Encoding, chances: Floats) -> Prediction:
        cut = bool(encoding.overflowing)
        if not self.words:
            best = int(chances.argmax())
            return Prediction(self.labels[best], float(chances[best]), cut)
        tags, scores = [self.outside] * len(row), [0.0] * len(row)
        before = [None, *encoding.word_ids]
        for token, (word, last) in enumerate(zip(encoding.word_ids, before, strict=False)):
            if word is not None and word != last:
                best = int(chances[token].argmax())
                tags[word], scores[word] = self.labels[best], float(chances[token, best])
        return Prediction(tags, scores, cut)
