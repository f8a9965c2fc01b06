"""A row as the problem needs it: which column is what, each value of the kind that its role wants.

Labels and tags may be numbers or booleans, whose text is taken; a text must be text. An empty text or an odd label is
for the rules of `validate`.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from datetime import time as clock
from decimal import Decimal
from typing import Any, NamedTuple

from tasks.data.readers.labelled import Choice
from tasks.data.readers.lines import Unfit
from tasks.problems.contract import Kind, Problem
from tasks.recipe import Data


class Fitted(NamedTuple):
    """A row as the problem needs it."""

    values: dict[str, Any]  # role -> value
    time: str | None
    group: str | None
    extra: dict[str, str]
    characters: int


def fitted(
    values: Mapping[str, Any], problem: Problem, data: Data, *, answered: bool = True, annotated: bool = False
) -> Fitted:
    """A row's columns by their role, with its answers or without; the other scalar ones as text in `extra`.

    `annotated`: by a person in a tool that is silent where nothing was chosen, so labels that are not there are none.

    Raises:
        Unfit: missing-column, type, encoding, tags-length, row-form, text-nul, text-surrogate.
    """
    columns = data.columns(problem)
    roles = problem.roles if answered else problem.inputs
    if annotated:
        values = {columns[role]: [] for role, kind in roles.items() if kind == "labels"} | dict(values)
    row = {role: FIT[kind](_present(values, columns[role]), columns[role]) for role, kind in roles.items()}
    if answered and (fault := problem.fault(row)):
        raise Unfit("tags-length" if problem.tagged else "row-form", fault)
    time, group = _optional(values, data.time), _optional(values, data.group)
    own = (*columns.values(), data.time, data.group)
    extra = {}
    for column, value in values.items():
        if column not in own and (text := _spelled(value)) is not None:
            extra[column] = text
    told = problem.told(row) if answered else ()
    strings = [*problem.said(row), *told, time or "", group or "", *extra, *extra.values()]
    return Fitted(row, time, group, extra, _sound(strings))


def _present(values: Mapping[str, Any], column: str) -> Any:
    value = values.get(column)
    if value is None:
        raise Unfit("missing-column", f"{column!r} is {'null' if column in values else 'not there'}")
    return value


def _list(value: Any, column: str) -> list[Any]:
    if isinstance(value, Choice):
        return [value]
    if not isinstance(value, list):
        raise _mistyped(value, column, "a list")
    return value


def _strings(value: Any, column: str) -> list[str]:
    return [_string(each, column) for each in _list(value, column)]


def _answers(value: Any, column: str) -> list[str]:
    return [_answer(each, column) for each in _list(value, column)]


def _number(value: Any, column: str) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise _mistyped(value, column, "a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not math.isfinite(value):
        raise _mistyped(value, column, "a finite number")
    return float(value)


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


def _optional(values: Mapping[str, Any], column: str | None) -> str | None:
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


def _sound(strings: Iterable[str]) -> int:
    """The characters of all strings together; raises Unfit if one has a NUL or half a surrogate pair."""
    together = "".join(strings)
    if "\0" in together:
        raise Unfit("text-nul", "a NUL character (U+0000)")
    try:
        together.encode()
    except UnicodeEncodeError as error:
        raise Unfit("text-surrogate", f"half a surrogate pair (U+{ord(together[error.start]):04X})") from error
    return len(together)


def _place(value: Any, column: str) -> int:
    number = _number(value, column)
    if number != int(number):
        raise _mistyped(value, column, "a whole number")
    return int(number)


def _spans(value: Any, column: str) -> list[dict[str, Any]]:
    """Passages one by one, or as SQuAD has them: a list of texts and one of where they begin."""
    if isinstance(value, Mapping):
        texts, starts = (_list(value.get(key), f"{column}.{key}") for key in ("text", "answer_start"))
        if len(texts) != len(starts):
            raise Unfit("type", f"{column!r} has {len(texts)} texts and {len(starts)} starts")
        value = [{"text": text, "start": start} for text, start in zip(texts, starts, strict=True)]
    passages = [_parts(each, column, "text", "start") for each in _list(value, column)]
    return [{"text": _string(text, column), "start": _place(start, column)} for text, start in passages]


def _turns(value: Any, column: str) -> list[dict[str, Any]]:
    messages = [_parts(each, column, "role", "content") for each in _list(value, column)]
    return [{"role": _string(role, column), "content": _string(content, column)} for role, content in messages]


def _parts(value: Any, column: str, *keys: str) -> list[Any]:
    if not isinstance(value, Mapping) or any(key not in value for key in keys):
        raise _mistyped(value, column, f"a mapping with {' and '.join(keys)}")
    return [value[key] for key in keys]


FIT: dict[Kind, Callable[[Any, str], Any]] = {
    "text": _string,
    "words": _strings,
    "label": _answer,
    "labels": _answers,
    "tags": _answers,
    "number": _number,
    "texts": _strings,
    "place": _place,
    "spans": _spans,
    "turns": _turns,
}
