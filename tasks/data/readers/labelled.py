"""Tasks as Label Studio exports and imports them: one JSON array, each task a row of its data and of what was chosen.

A value stands in the column that its control is called by (`from_name`), over one of the data. Read are choices, texts,
numbers and ratings of a whole task; other results, such as spans and boxes, and what was chosen for one of those, are
left alone. The last annotation that nobody cancelled counts. Where there is none, the last prediction does: such a row
is automatic, and `confidence` has its score. Without either the row is what its data are.

A file is read whole: one of 64 MiB, 59,000 short messages of one choice each, took 2.6 s of processor time and 310 MB.
"""

from collections.abc import Iterator
from io import BufferedReader
from json import JSONDecodeError
from typing import Any, TypeVar

from tasks.data.readers import jsonl
from tasks.data.readers.lines import Fault, Row, Unfit, unpacked
from tasks.errors import BadInput

T = TypeVar("T")

MAX = 64 << 20  # bytes, unpacked
CONTROLS = {"choices": "choices", "textarea": "text", "number": "number", "rating": "rating"}  # type -> its value
REGION = {"start", "end", "x", "points", "rle", "ranges", "sequence"}  # in a value: it is about a part of the task
CONFIDENCE = "confidence"


class Choice(str):
    """All that was chosen, by one word: a text, and a list of one where any number may be chosen."""


def written(
    data: dict[str, Any], control: str, over: str, choices: list[str], score: float, model: str
) -> dict[str, Any]:
    """A task with what a model chose in a control over one of the data; `rows` reads it back as an automatic row."""
    result = {"from_name": control, "to_name": over, "type": "choices", "value": {"choices": choices}}
    return {"data": data, "predictions": [{"model_version": model, "score": score, "result": [result]}]}


def rows(file: BufferedReader, name: str) -> Iterator[Row | Fault]:
    """A Row or Fault for every task; a file that is no array is read as JSON Lines.

    Faults: task-form, json-depth.

    Raises:
        BadInput: E-JSON for what is no JSON or larger than 64 MiB, E-DATA-FORMAT for an array of something else; what
            `unpacked` raises, or the reader of JSON Lines.
    """
    with unpacked(file, name) as stream:
        array = stream.peek(512).lstrip().startswith(b"[")
        content = stream.read(MAX + 1) if array else b""
    if not array:
        file.seek(0)
        yield from jsonl.rows(file, name)
        return
    tasks = _read(content, name)
    if tasks and not (isinstance(tasks[0], dict) and isinstance(tasks[0].get("data"), dict)):
        raise BadInput(
            "E-DATA-FORMAT",
            f"{name} holds one array, whose first part is no task of Label Studio, a mapping with `data`; wanted such, "
            "or JSON Lines, one object a line: `jq -c '.[]' rows.json > rows.jsonl`",
        )
    for number, task in enumerate(tasks, 1):
        yield _row(number, task)


def _read(content: bytes, name: str) -> list[Any]:
    if len(content) > MAX:
        raise BadInput("E-JSON", f"{name}: more than {MAX >> 20} MiB of tasks; export them in parts")
    try:
        found: list[Any] = jsonl.DECODER.decode(content.decode())
    except JSONDecodeError as error:
        raise _no_json(name, f"line {error.lineno} column {error.colno}: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise _no_json(name, f"byte {error.start} (0x{content[error.start]:02x}) is not UTF-8") from error
    except Unfit as unfit:
        raise _no_json(name, unfit.detail) from unfit
    except RecursionError as error:
        raise _no_json(name, "nested too deep") from error
    return found


def _no_json(name: str, found: str) -> BadInput:
    return BadInput("E-JSON", f"{name}: {found}; wanted one array of tasks: export them again, or mend the file")


def _row(number: int, task: Any) -> Row | Fault:
    if jsonl.deep(task, jsonl.MAX_DEPTH):
        return Fault(number, "json-depth", f"nested deeper than {jsonl.MAX_DEPTH}", repr(task))
    try:
        data = _of(task, "data", dict)
        made = [each for each in _of(task, "annotations", list) if not _of(each, "was_cancelled", bool)]
        guessed = _of(task, "predictions", list)
        if made:
            return Row(number, data | _chosen(made[-1]), data=data)
        if guessed:
            values = data | _chosen(guessed[-1]) | {CONFIDENCE: guessed[-1].get("score")}
            return Row(number, values, automatic=True, data=data)
        return Row(number, data)
    except Unfit as unfit:
        return Fault(number, unfit.reason, unfit.detail, task)


def _chosen(answered: Any) -> dict[str, Any]:
    """What was chosen or written, by control."""
    values: dict[str, Any] = {}
    for result in _of(answered, "result", list):
        key = CONTROLS.get(_of(result, "type", str))
        if key is None:
            continue
        control, value = _of(result, "from_name", str), _of(result, "value", dict)
        if not REGION.isdisjoint(value):
            continue
        if control in values:
            raise Unfit("task-form", f"{control!r:.80} answers twice, wanted one answer for the whole task")
        told: Any = value.get(key)
        alone = isinstance(told, list) and len(told) == 1 and isinstance(told[0], str)
        values[control] = Choice(told[0]) if alone else told
    return values


def _of(part: Any, key: str, kind: type[T]) -> T:
    """What a part of a task has under a key; nothing is an empty one."""
    if not isinstance(part, dict):
        raise Unfit("task-form", f"found {part!r:.60}, wanted a mapping that may have {key!r}")
    value = part.get(key)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise Unfit("task-form", f"{key!r} is {type(value).__name__} {value!r:.60}, wanted {kind.__name__}")
    return value
