"""JSON Lines, stricter than Python: one object a line, no key twice, no NaN, no endless number or nesting.

`json.loads` keeps the last of two equal keys in silence, takes NaN, and at 200 000 brackets raises a RecursionError.
"""

import json
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

from tasks.data.readers.lines import Fault, Line, Row, Unfit, lines, undecodable
from tasks.errors import BadInput

MAX_DEPTH = 32
MAX_DIGITS = 100  # of an integer


def rows(file: BufferedReader, name: str) -> Iterator[Row | Fault]:
    """A Row or Fault for every line that is not blank.

    Faults: encoding, json-syntax, json-shape, json-dupkey, json-number, json-depth.

    Raises:
        BadInput: E-DATA-FORMAT for a .json file that is one object over several lines; what `lines` raises.
    """
    whole = name.lower().removesuffix(".gz").endswith(".json")
    for line in lines(file, name):
        content = line.content.strip()
        if whole and content:
            _refuse_one_object(content, name)
            whole = False
        if content:
            yield _row(line)


def _refuse_one_object(first: bytes, name: str) -> None:
    if first == b"{":
        found = f"{name} holds one object over several lines, which cannot be read row by row"
        raise BadInput(
            "E-DATA-FORMAT", f"{found}; wanted JSON Lines, one object a line: `jq -c '.[]' rows.json > rows.jsonl`"
        )


def _row(line: Line) -> Row | Fault:
    try:
        text = line.content.decode()
    except UnicodeDecodeError as error:
        return undecodable(error, line.number, line.offset)
    try:
        values = DECODER.decode(text)
        too_deep = text.count("[") + text.count("{") > MAX_DEPTH and deep(values, MAX_DEPTH)
    except Unfit as unfit:
        return Fault(line.number, unfit.reason, unfit.detail, text)
    except RecursionError:
        too_deep = True
    except json.JSONDecodeError as error:
        return Fault(line.number, "json-syntax", f"{error.msg} at character {error.pos + 1}", text)
    if too_deep:
        return Fault(line.number, "json-depth", f"nested deeper than {MAX_DEPTH}", text)
    if not isinstance(values, dict):
        return Fault(line.number, "json-shape", f"found {_KINDS[type(values)]}, wanted an object", text)
    return Row(line.number, values)


def deep(value: Any, left: int) -> bool:
    """Whether a value is nested deeper than `left`."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return left == 0 or any(deep(one, left - 1) for one in inner)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise Unfit("json-dupkey", f"key {twice!r:.80} stands twice")
    return values


def _integer(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise Unfit("json-number", f"an integer of {len(text)} digits")
    return int(text)


def _float(text: str) -> float:
    if abs(value := float(text)) == float("inf"):
        raise Unfit("json-number", f"{text:.40} is beyond a double")
    return value


def _constant(text: str) -> None:
    raise Unfit("json-number", f"{text} is no JSON")


DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_int=_integer, parse_float=_float, parse_constant=_constant)
_KINDS = {list: "a list", str: "a text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}
