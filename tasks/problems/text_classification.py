"""A text has one label: sentiment, topic, intent."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder, numbered
from tasks.problems.contract import Answerer, Prediction, Problem, Row, most_common

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks

MEANS = tuple(f"{mean}_{kind}" for mean in ("micro", "weighted") for kind in ("f1", "precision", "recall"))


class TextClassification(Problem):
    """One label for a text, by the softmax over all labels."""

    inputs = {"text": "text"}
    answers = {"label": "label"}
    head = "AutoModelForSequenceClassification"
    metrics = ("macro_f1", "accuracy", "macro_precision", "macro_recall", *MEANS)

    def posed(self, row: Row, labels: tuple[str, ...]) -> tuple[str, dict[str, Any]] | None:
        written = {label.replace("_", " "): label for label in labels}
        return ("\n".join(self.said(row)), written) if len(written) == len(labels) else None

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        texts = [rows[role].to_pylist() for role in self.inputs]
        encoded = encoder.texts(*texts)
        return encoded if labels is None else replace(encoded, labels=numbered(rows["label"], labels))

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        chances = [softmax(logits) for logits in model.outputs(encoded)]
        return [
            Prediction(model.labels[int(chance.argmax())], float(chance.max()), bool(cut))
            for chance, cut in zip(chances, encoded.truncated, strict=True)
        ]

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import labels as metrics

        return metrics.marks(truth, answers, labels)

    def report(self, truth: Sequence[Any], answers: Sequence[Any]) -> str:
        from sklearn.metrics import classification_report

        return str(classification_report(truth, answers, digits=4, zero_division=0))

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        return {"the most frequent label": [most_common(row["label"] for row in train)] * len(rows)}


def softmax(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Probabilities of the last axis."""
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(-1, keepdims=True))


def sigmoid(logits: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
    """Probabilities, each by itself; written so that no logit is too large for it."""
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))


PROBLEM = TextClassification()
