"""YAML without surprises: what a recipe may contain, and nothing else.

PyYAML's `safe_load` reads `1e-5` as text, `NO` as False and `1:30` as 90, keeps the last of two equal keys in silence,
and a 442-byte file of aliases can take it minutes. This reader builds plain values from PyYAML's parse events instead:
YAML 1.2 core scalars, one mapping a file, no tags, anchors or aliases, no key twice, bounded in size and depth.
"""

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from tasks.errors import BadInput

MAX_BYTES = 65_536
MAX_DEPTH = 20
_INT = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_NOT_FINITE = re.compile(r"[-+]?\.(inf|nan)", re.IGNORECASE)
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")

Path = tuple[str | int, ...]


@dataclass
class Document:
    """The values of a file and the line of each key, so that an error can say where."""

    values: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)


def read(content: bytes, name: str) -> Document:
    """The one mapping in `content`.

    Raises:
        BadInput: E-YAML-SIZE, -ENC, -DEPTH, -TAG, -ALIAS, -DUPKEY, -SHAPE or -SYNTAX, with file and line.
    """
    if len(content) > MAX_BYTES:
        raise BadInput("E-YAML-SIZE", f"{name}: {len(content)} bytes > {MAX_BYTES}; a recipe is small, mend the path")
    events = _Events(_decoded(content, name), name)
    document = Document({})
    values = events.document(document.lines)
    if not isinstance(values, dict):
        raise BadInput("E-YAML-SHAPE", f"{name}: found {_shape(values)}, wanted one mapping of sections")
    document.values = values
    return document


def scalar(text: str) -> Any:
    """A plain scalar as YAML 1.2's core schema reads it: `1e-5` is a number, `NO` and `1:30` are text."""
    if text in _SPECIAL:
        return _SPECIAL[text]
    if _INT.fullmatch(text):
        return int(text) if len(text) <= 20 else text
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", "", 1))
    return text


def _decoded(content: bytes, name: str) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput("E-YAML-ENC", f"{name}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
    if found := _HIDDEN.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise BadInput("E-YAML-ENC", f"{name} line {line}: {_hidden(found[0])}")
    return text


def _hidden(character: str) -> str:
    return f"invisible character U+{ord(character):04X}; remove it"


def _shape(values: Any) -> str:
    return "nothing" if values is None else "a list" if isinstance(values, list) else f"{values!r:.40}"


class _Events:
    """A walk over PyYAML's parse events that refuses whatever a recipe has no use for."""

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.stream = yaml.parse(text, Loader=yaml.SafeLoader)

    def refuse(self, code: str, mark: Any, message: str) -> BadInput:
        return BadInput(code, f"{self.name} line {mark.line + 1}: {message}")

    def next(self) -> Any:
        try:
            event: Any = next(self.stream)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            where = f" line {mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or "not YAML"
            raise BadInput("E-YAML-SYNTAX", f"{self.name}{where}: {problem}; mend the line") from error
        if getattr(event, "anchor", None) is not None:
            raise self.refuse("E-YAML-ALIAS", event.start_mark, "anchors and aliases are not allowed; write it out")
        if getattr(event, "tag", None) is not None:
            raise self.refuse("E-YAML-TAG", event.start_mark, f"tag {event.tag!r:.60} is not allowed; remove it")
        if isinstance(event, yaml.ScalarEvent) and (found := _HIDDEN.search(event.value)):  # spelled as an escape
            raise self.refuse("E-YAML-ENC", event.start_mark, _hidden(found[0]))
        return event

    def document(self, lines: dict[Path, int]) -> Any:
        self.next()  # stream start
        if isinstance(self.next(), yaml.StreamEndEvent):
            return None
        value = self.value(self.next(), (), lines)
        self.next()  # document end
        following = self.next()
        if not isinstance(following, yaml.StreamEndEvent):
            raise self.refuse("E-YAML-SHAPE", following.start_mark, "a second document begins; wanted one mapping")
        return value

    def value(self, event: Any, path: Path, lines: dict[Path, int]) -> Any:
        if len(path) > MAX_DEPTH:
            raise self.refuse("E-YAML-DEPTH", event.start_mark, f"nested deeper than {MAX_DEPTH}; flatten it")
        lines[path] = event.start_mark.line + 1
        if isinstance(event, yaml.ScalarEvent):
            return scalar(event.value) if event.style is None else event.value
        if isinstance(event, yaml.SequenceStartEvent):
            return self.sequence(path, lines)
        return self.mapping(path, lines)

    def sequence(self, path: Path, lines: dict[Path, int]) -> list[Any]:
        values: list[Any] = []
        while not isinstance(event := self.next(), yaml.SequenceEndEvent):
            values.append(self.value(event, (*path, len(values)), lines))
        return values

    def mapping(self, path: Path, lines: dict[Path, int]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        while not isinstance(event := self.next(), yaml.MappingEndEvent):
            if not isinstance(event, yaml.ScalarEvent):
                raise self.refuse("E-YAML-SHAPE", event.start_mark, "a key must be plain text")
            mark: Any = event.start_mark
            key, line = event.value, mark.line + 1
            if key in values:
                dotted = ".".join(map(str, (*path, key)))
                first = lines[(*path, key)]
                raise BadInput("E-YAML-DUPKEY", f"{self.name}: {dotted} on lines {first} and {line}; keep one")
            values[key] = self.value(self.next(), (*path, key), lines)
            lines[(*path, key)] = line
        return values
