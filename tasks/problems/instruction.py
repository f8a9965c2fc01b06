"""A prompt is answered by a text: instructions, questions, code from its description."""

from collections.abc import Mapping
from typing import Any

from tasks.encoding import Encoded, Encoder
from tasks.problems.causal_language_modelling import CausalLanguageModelling
from tasks.problems.contract import Row


class Instruction(CausalLanguageModelling):
    """The answer, token after token; nothing is learned of the prompt (Sanh et al. 2022 train so)."""

    inputs = {"prompt": "text"}
    answers = {"answer": "text"}
    in_turns = True

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        pairs = zip(rows["prompt"].to_pylist(), rows["answer"].to_pylist(), strict=True)
        return encoder.in_turns([[(prompt, False), (answer, True)] for prompt, answer in pairs])

    def told(self, row: Row) -> list[str]:
        return [row["answer"]]


PROBLEM = Instruction()
