"""A row as the task needs it: which column is what, as text.

Labels and tags may be numbers or booleans, whose text is taken; a text must be text. An empty text or an odd label is
for the rules of `validate`.
"""

import math
from datetime import date
from datetime import time as clock
from decimal import Decimal
from typing import Any, NamedTuple

from tasks.data.readers.lines import Unfit
from tasks.recipe import Data, Task


class Fitted(NamedTuple):
    """A row as the task needs it."""

    said: str | list[str]  # text or tokens
    answer: str | list[str]  # label or tags
    time: str | None
    group: str | None
    extra: dict[str, str]
    characters: int


def fitted(values: dict[str, Any], task: Task, data: Data) -> Fitted:
    """A row's columns by their role; the other scalar ones as text in `extra`.

    Raises:
        Unfit: missing-column, type, encoding, tags-length, text-nul, text-surrogate.
    """
    said: str | list[str]
    answer: str | list[str]
    if task == "text-classification":
        roles = (data.text, data.label)
        said, answer = _text(values, data.text), _answer(_present(values, data.label), data.label)
        strings = [said, answer]
    else:
        roles = (data.tokens, data.tags)
        said = [_string(token, data.tokens) for token in _list(values, data.tokens)]
        answer = [_answer(tag, data.tags) for tag in _list(values, data.tags)]
        if len(said) != len(answer):
            raise Unfit("tags-length", f"{len(said)} {data.tokens} but {len(answer)} {data.tags}")
        strings = said + answer
    time, group = _optional(values, data.time), _optional(values, data.group)
    own = (*roles, data.time, data.group)
    extra = {}
    for column, value in values.items():
        if column not in own and (text := _spelled(value)) is not None:
            extra[column] = text
    characters = _sound([*strings, time or "", group or "", *extra, *extra.values()])
    return Fitted(said, answer, time, group, extra, characters)


def _text(values: dict[str, Any], column: str) -> str:
    return _string(_present(values, column), column)


def _present(values: dict[str, Any], column: str) -> Any:
    value = values.get(column)
    if value is None:
        raise Unfit("missing-column", f"{column!r} is {'null' if column in values else 'not there'}")
    return value


def _list(values: dict[str, Any], column: str) -> list[Any]:
    value = _present(values, column)
    if not isinstance(value, list):
        raise _mistyped(value, column, "a list")
    return value


def _string(value: Any, column: str) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise _mistyped(value, column, "text")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Unfit("encoding", f"{column!r}: byte {error.start} (0x{value[error.start]:02x}) is not UTF-8") from error


def _answer(value: Any, column: str) -> str:
    text = _spelled(value) if not isinstance(value, date | clock) else None
    if text is None:
        raise _mistyped(value, column, "text, a number, true or false")
    return text


def _optional(values: dict[str, Any], column: str | None) -> str | None:
    value = None if column is None else values.get(column)
    if value is None or value == "":
        return None
    if (text := _spelled(value)) is None:
        raise _mistyped(value, str(column), "text, a number or a time")
    return text


def _spelled(value: Any) -> str | None:
    """A scalar as text, the way JSON and ISO 8601 spell it; None for anything else, and for what is no number."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    if isinstance(value, int | Decimal):
        return str(value)
    return value.isoformat() if isinstance(value, date | clock) else None


def _mistyped(value: Any, column: str, wanted: str) -> Unfit:
    return Unfit("type", f"{column!r} is {type(value).__name__} {value!r:.60}, wanted {wanted}")


def _sound(strings: list[str]) -> int:
    """The characters of all strings together; raises Unfit if one has a NUL or half a surrogate pair."""
    together = "".join(strings)
    if "\0" in together:
        raise Unfit("text-nul", "a NUL character (U+0000)")
    try:
        together.encode()
    except UnicodeEncodeError as error:
        raise Unfit("text-surrogate", f"half a surrogate pair (U+{ord(together[error.start]):04X})") from error
    return len(together)
