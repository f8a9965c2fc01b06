"""A text is told token after token, each from those before it (Bengio et al. 2003): prose, code, continuations.

An exam asks how probable the model finds a text; otherwise it goes on from one. Models of different tokenizers can be
compared by bits a character, so that is the headline; perplexity is that of a token.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import numpy.typing as npt

from tasks.encoding import IGNORED, Encoded, Encoder
from tasks.problems.contract import Answerer, At, Kind, Prediction, Problem, Row

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks

GRAM = 5  # characters that the baseline looks at


class CausalLanguageModelling(Problem):
    """The next token. A text of many tokens comes in blocks; the last token of one tells the first of the next."""

    inputs: ClassVar[Mapping[str, Kind]] = {"text": "text"}
    head = "AutoModelForCausalLM"
    reads = "read"
    at: ClassVar[At] = "tokens"
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_character", "perplexity", "loss", "token_accuracy")
    reveals = True
    generates = True
    in_turns: ClassVar[bool] = False  # whether what is told follows what is given, or is the text itself

    @property
    def watched(self) -> tuple[str, ...]:
        return ("perplexity", "token_accuracy")

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        encoded = encoder.blocks(rows["text"].to_pylist(), whole=False)
        assert encoded.rows is not None
        following = np.append(encoded.tokens[1:], 0).astype(np.int64)
        last = np.flatnonzero(np.diff(encoded.rows, append=-1))  # the last block of each text
        following[np.cumsum(encoded.lengths)[last] - 1] = IGNORED
        return replace(encoded, labels=following)

    def begun(self, row: Row) -> list[str]:
        """The texts that a model is to go on from."""
        return list(self.said(row))

    def told(self, row: Row) -> list[str]:
        """The texts that are to be told."""
        return list(self.said(row))

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        given = model.encoder.begun([self.begun(row) for row in rows], model.room, in_turns=self.in_turns)
        pairs = zip(model.generated(given), given.truncated, strict=True)
        return [Prediction(text, None, bool(cut)) for text, cut in pairs]

    def examined(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.encode(self.columns(rows, answered=True), model.encoder, {})
        sums = np.zeros((len(rows), 3))
        row = np.arange(len(rows)) if encoded.rows is None else encoded.rows
        np.add.at(sums, row, model.likelihoods(encoded))
        return [
            Prediction({**_sums(*each), "characters": float(sum(map(len, self.told(row))))}, None, bool(cut))
            for row, each, cut in zip(rows, sums.tolist(), encoded.truncated, strict=True)
        ]

    def truth(self, row: Row) -> Any:
        return None

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import likelihood

        names = ("nats", "tokens", "right", "characters")
        return likelihood.marks(*([answer[name] for answer in answers] for name in names))

    def watch(self, loss: float, kept: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> dict[str, float]:
        counts = shard.labels != IGNORED
        right = kept[counts] == shard.labels[counts]
        return {"perplexity": float(np.exp(loss)), "token_accuracy": float(right.mean())}

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        from tasks.metrics.ngrams import Ngrams

        known = Ngrams(GRAM, (text for row in train for text in self.told(row)))
        answers = []
        for row in rows:
            texts = self.told(row)
            nats, right, symbols = map(sum, zip(*map(known.tell, texts), strict=True))
            answers.append({**_sums(nats, symbols, right), "characters": float(sum(map(len, texts)))})
        return {f"{GRAM}-grams of characters": answers}


def _sums(nats: float, tokens: float, right: float) -> dict[str, float]:
    return {"nats": float(nats), "tokens": float(tokens), "right": float(right)}


PROBLEM = CausalLanguageModelling()
