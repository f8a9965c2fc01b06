"""A text has a number: a rating, a mark, an intensity."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder
from tasks.problems.contract import Answerer, Prediction, Problem, Row

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks


class Regression(Problem):
    """The number itself, by the squared error."""

    inputs = {"text": "text"}
    answers = {"score": "number"}
    head = "AutoModelForSequenceClassification"
    problem_type = "regression"
    loss = "squared_error"
    metrics = ("spearman", "pearson", "mse", "mae", "r2")

    def outputs(self, labels: tuple[str, ...]) -> int:
        return 1

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        encoded = encoder.texts(*(rows[role].to_pylist() for role in self.inputs))
        return encoded if labels is None else replace(encoded, labels=rows["score"].to_numpy().astype(np.float32))

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        pairs = zip(model.outputs(encoded), encoded.truncated, strict=True)
        return [Prediction(float(logits[0]), None, bool(cut)) for logits, cut in pairs]

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import numbers as metrics

        return metrics.marks(truth, answers)

    def reduced(self, logits: Any, batch: Any) -> Any:
        return logits[..., 0]

    def decoded(self, ids: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> Sequence[Any]:
        return list(ids)

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        return {"the mean": [float(np.mean([row["score"] for row in train]))] * len(rows)}


PROBLEM = Regression()
