"""A dialogue goes on with what the assistant says: chat."""

from collections.abc import Mapping
from typing import Any

from tasks.encoding import Encoded, Encoder
from tasks.problems.causal_language_modelling import CausalLanguageModelling
from tasks.problems.contract import Row

SPEAKER = "assistant"


class Dialogue(CausalLanguageModelling):
    """What the assistant says, token after token; nothing is learned of what others say."""

    inputs = {"messages": "turns"}
    in_turns = True

    def fault(self, row: Row) -> str | None:
        said = any(each["role"] == SPEAKER for each in row["messages"])
        return None if said else f"no message of role {SPEAKER!r}"

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        return encoder.in_turns([_turns(messages) for messages in rows["messages"].to_pylist()])

    def begun(self, row: Row) -> list[str]:
        return [text for text, _ in _turns(row["messages"])] + [f"{SPEAKER}:"]

    def told(self, row: Row) -> list[str]:
        return [each["content"] for each in row["messages"] if each["role"] == SPEAKER]


def _turns(messages: list[dict[str, str]]) -> list[tuple[str, bool]]:
    """Each message behind the name of its role; of the assistant's, what is said is to be told."""
    turns = []
    for each in messages:
        if each["role"] == SPEAKER:
            turns += [(f"{SPEAKER}:", False), (each["content"], True)]
        else:
            turns.append((f"{each['role']}: {each['content']}", False))
    return turns


PROBLEM = Dialogue()
