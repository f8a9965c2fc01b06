"""How well a text answers another: results of a query, answers to a question, what a reader goes on to click or buy.

Rows of the same text are one list, which the answers put in order. A pair that nobody saw and a pair that was passed
over are different things: rows are what was shown, and `relevant` is what became of it, from 0 (passed over) to 1. For
AUC, half and more is relevant; NDCG takes the shares as gains.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder
from tasks.problems.contract import Answerer, Prediction, Problem, Row
from tasks.problems.similarity import jaccard
from tasks.problems.text_classification import sigmoid

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks


HALF = 0.5  # from which a share counts as relevant where it is asked for yes or no


class Relevance(Problem):
    """The probability that the second text is relevant to the first, by the cross entropy of each pair."""

    inputs = {"text": "text", "pair": "text"}
    answers = {"relevant": "number"}
    head = "AutoModelForSequenceClassification"
    problem_type = "multi_label_classification"
    loss = "binary_cross_entropy"
    metrics = ("auc", "ndcg_10", "mrr", "hit_1", "hit_3", "hit_10")

    @property
    def watched(self) -> tuple[str, ...]:
        """The loss first: it tells a better step even where all validation rows are relevant."""
        return ("loss", "auc")

    def fault(self, row: Row) -> str | None:
        return None if 0 <= row["relevant"] <= 1 else f"relevant {row['relevant']:g}, wanted 0..1"

    def outputs(self, labels: tuple[str, ...]) -> int:
        return 1

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        encoded = encoder.texts(*(rows[role].to_pylist() for role in self.inputs))
        if labels is None:
            return encoded
        return replace(encoded, labels=rows["relevant"].to_numpy().astype(np.float32)[:, None])

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        chances = [sigmoid(logits[0]) for logits in model.outputs(encoded)]
        pairs = zip(chances, encoded.truncated, strict=True)
        return [Prediction(float(chance), None, bool(cut)) for chance, cut in pairs]

    def truth(self, row: Row) -> Any:
        return {"text": row["text"], "relevant": row["relevant"]}

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import ranking

        shares, texts = [each["relevant"] for each in truth], [each["text"] for each in truth]
        return ranking.marks(shares, answers, texts, least=HALF)

    def reduced(self, logits: Any, batch: Any) -> Any:
        return logits[..., 0]

    def watch(self, loss: float, kept: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> dict[str, float]:
        from tasks.metrics import ranking

        return {"auc": float(ranking.marks(shard.labels[:, 0], kept, least=HALF).score("auc"))}

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        shown = {row["pair"]: [0.0, 0] for row in rows}  # of the pairs that are asked for: taken, shown
        every: list[float] = [0.0, 0]
        for row in train:
            for counts in (every, shown.get(row["pair"], [0.0, 0])):
                counts[0] += row["relevant"]
                counts[1] += 1
        usual = every[0] / every[1]
        popular = {pair: (taken + usual) / (times + 1) for pair, (taken, times) in shown.items()}
        return {
            "how popular it is": [popular[row["pair"]] for row in rows],
            "shared words": [jaccard(row["text"], row["pair"]) for row in rows],
        }


PROBLEM = Relevance()
