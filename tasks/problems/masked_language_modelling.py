"""Some tokens of a text are hidden, and told from all others: pre-training, and adaptation to a domain.

Devlin et al. 2019, section 3.1. Which tokens are hidden is drawn anew in every epoch while a model learns, and once for
each row where it is examined. Perplexity is that of the hidden tokens: not one of a model that tells token after token,
and to be compared between models of one tokenizer only.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder
from tasks.problems.causal_language_modelling import CausalLanguageModelling
from tasks.problems.contract import Answerer, Prediction, Row


class MaskedLanguageModelling(CausalLanguageModelling):
    """The hidden tokens. What it answers outside of an exam is how probable they are, too."""

    head = "AutoModelForMaskedLM"
    at = "none"
    corrupted = True
    generates = False
    metrics = ("perplexity", "loss", "token_accuracy")

    @property
    def watched(self) -> tuple[str, ...]:
        return ("perplexity",)

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        return encoder.blocks(rows["text"].to_pylist(), whole=True)

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        return self.examined(model, rows)

    def watch(self, loss: float, kept: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> dict[str, float]:
        return {"perplexity": float(np.exp(loss))}

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        return {}


PROBLEM = MaskedLanguageModelling()
