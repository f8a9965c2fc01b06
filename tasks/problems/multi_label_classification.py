"""A text has any number of labels, none included: topics, tags, intents that come together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder
from tasks.problems.contract import Answerer, Prediction, Problem, Row, most_common
from tasks.problems.text_classification import sigmoid

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks


class MultiLabelClassification(Problem):
    """Each label by itself, at a probability of one half or more."""

    inputs = {"text": "text"}
    answers = {"labels": "labels"}
    head = "AutoModelForSequenceClassification"
    problem_type = "multi_label_classification"
    loss = "binary_cross_entropy"
    metrics = ("micro_f1", "macro_f1", "weighted_f1", "micro_precision", "micro_recall", "accuracy")

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        encoded = encoder.texts(rows["text"].to_pylist())
        if labels is None:
            return encoded
        hot = np.zeros((len(encoded.lengths), len(labels)), np.float32)
        for row, named in zip(hot, rows["labels"].to_pylist(), strict=True):
            row[[labels[each] for each in named]] = 1
        return replace(encoded, labels=hot)

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        found = []
        for logits, cut in zip(model.outputs(encoded), encoded.truncated, strict=True):
            chances = sigmoid(logits)
            named = np.flatnonzero(logits > 0)
            answer = [model.labels[each] for each in named]
            least = float(np.maximum(chances, 1 - chances).min())
            found.append(Prediction(answer, [float(chances[each]) for each in named], bool(cut), least))
        return found

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import labels as metrics

        return metrics.marks_of_sets(truth, answers, labels)

    def reduced(self, logits: Any, batch: Any) -> Any:
        return logits > 0

    def decoded(self, ids: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> Sequence[Any]:
        return [[labels[each] for each in np.flatnonzero(row > 0)] for row in ids]

    def report(self, truth: Sequence[Any], answers: Sequence[Any]) -> str:
        from sklearn.metrics import classification_report
        from sklearn.preprocessing import MultiLabelBinarizer

        hot = MultiLabelBinarizer().fit([*truth, *answers])
        sides = (hot.transform(side) for side in (truth, answers))
        return str(classification_report(*sides, target_names=hot.classes_, digits=4, zero_division=0))

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        common = list(most_common(tuple(sorted(row["labels"])) for row in train))
        return {"the most frequent set of labels": [common] * len(rows)}


PROBLEM = MultiLabelClassification()
