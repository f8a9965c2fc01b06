"""One of several texts goes with a question or a beginning: reading comprehension, commonsense reasoning."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder
from tasks.problems.contract import Answerer, Prediction, Problem, Row, largest, most_common
from tasks.problems.text_classification import softmax

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks


class MultipleChoice(Problem):
    """The place of the best choice: each is read behind the question, and scored by one output.

    A row may have any number of choices, so the head is that of a sequence with one output; BERT's own for multiple
    choice (Devlin et al. 2019, section 4.4) computes the same.
    """

    inputs = {"question": "text", "choices": "texts"}
    answers = {"answer": "place"}
    head = "AutoModelForSequenceClassification"
    grouped = True
    loss = "choice"
    metrics = ("accuracy",)

    def fault(self, row: Row) -> str | None:
        choices = len(row["choices"])
        if choices < 2:
            return f"{choices} choices, wanted 2 or more"
        if not 0 <= row["answer"] < choices:
            return f"answer {row['answer']} of {choices} choices, which are counted from 0"
        return None

    def posed(self, row: Row, labels: tuple[str, ...]) -> tuple[str, dict[str, Any]]:
        return row["question"], {choice: place for place, choice in enumerate(row["choices"])}

    def outputs(self, labels: tuple[str, ...]) -> int:
        return 1

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        choices = rows["choices"].to_pylist()
        sizes = [len(each) for each in choices]
        row = np.repeat(np.arange(len(choices)), sizes)
        questions = rows["question"].to_pylist()
        encoded = encoder.texts([questions[number] for number in row], list(chain.from_iterable(choices)))
        cut = np.bincount(row, encoded.truncated, len(choices)) > 0
        answers = None if labels is None else rows["answer"].to_numpy().astype(np.int32)
        return replace(encoded, rows=row, truncated=cut, labels=answers)

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        scores = np.concatenate(model.outputs(encoded))
        ends = np.cumsum([len(row["choices"]) for row in rows])[:-1]
        chances = map(softmax, np.split(scores, ends))
        return [
            Prediction(int(chance.argmax()), float(chance.max()), bool(cut))
            for chance, cut in zip(chances, encoded.truncated, strict=True)
        ]

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import labels as metrics

        return metrics.marks(truth, answers, ())

    def reduced(self, logits: Any, batch: Any) -> Any:
        return largest(logits, np.bincount(batch.groups))[:, 0]

    def decoded(self, ids: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> Sequence[Any]:
        return list(ids)

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        return {
            "the most frequent place": [most_common(row["answer"] for row in train)] * len(rows),
            "the longest choice": [int(np.argmax([len(each) for each in row["choices"]])) for row in rows],
        }


PROBLEM = MultipleChoice()
