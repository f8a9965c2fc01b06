"""A text becomes another: translation, summarisation, rewriting."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder
from tasks.problems.contract import Answerer, Prediction, Problem, Row

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks

LEAD = 3  # sentences
END = re.compile(r"[.!?](?=\s+\S)|[。！？](?=\s*[^\s。！？”’」』）])")  # of a sentence that is not the last, nor quoted


class SequenceToSequence(Problem):
    """An encoder reads the source and a decoder writes the target, token after token (Sutskever et al. 2014).

    While it learns, the decoder is given the true tokens before each; an exam has it write.
    """

    inputs = {"source": "text"}
    answers = {"target": "text"}
    head = "AutoModelForSeq2SeqLM"
    reads = "read"
    at = "none"
    metrics = ("bleu", "chrf", "rouge1", "rouge2", "rougeL", "exact_match")
    generates = True

    @property
    def watched(self) -> tuple[str, ...]:
        return ("perplexity", "token_accuracy")

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        encoded = encoder.texts(rows["source"].to_pylist())
        return encoded if labels is None else replace(encoded, target=encoder.written(rows["target"].to_pylist()))

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        pairs = zip(model.generated(encoded), encoded.truncated, strict=True)
        return [Prediction(text, None, bool(cut)) for text, cut in pairs]

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import generation

        return generation.marks(truth, answers)

    def watch(self, loss: float, kept: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> dict[str, float]:
        right = kept == shard.target.labels
        return {"perplexity": float(np.exp(loss)), "token_accuracy": float(right.mean())}

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        texts = [row["source"] for row in rows]
        lead = list(map(_lead, texts))
        return {"copy": texts} | ({f"the first {LEAD} sentences": lead} if lead != texts else {})


def _lead(text: str) -> str:
    """The first sentences of a text, as they stand there."""
    end = next(islice(END.finditer(text), LEAD - 1, None), None)
    return text[: end.end()] if end else text


PROBLEM = SequenceToSequence()
