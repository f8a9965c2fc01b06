"""A YAML file becomes a Recipe, or one error that names every fault with its line."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, ValidationError

from tasks import strict_yaml
from tasks.errors import BadInput, listed
from tasks.recipe.sections import Data, Decoding, Recipe, Section

KINDS = ("f1", "precision", "recall")
BYTES = 261  # tokens that a vocabulary of bytes begins with
_WORDING = {  # how pydantic begins, and how our sentence goes on after "wanted"
    "Value error, ": "",
    "Input should be (greater|less)": r"a number \1",
    "Input should be an object": "a mapping",
    "Input should be a valid array": "a list",
    "Input should be ": "",
    "String should match pattern": "text of the form",
    "String should have": "text of",
}


def _received(value: Any) -> Any:
    return Recipe.model_validate_json(_json(value)) if isinstance(value, dict) else value


Received = Annotated[Recipe, BeforeValidator(_received)]  # a flow's parameter: plain values, as Prefect hands them over


def load(path: Path, changes: Iterable[str] = ()) -> Recipe:
    """The recipe in a YAML file, with `a.b=value` changes laid over it.

    Raises:
        BadInput: E-RECIPE-MISSING, E-YAML-*, E-SET or E-RECIPE; the last lists every fault with its line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput("E-RECIPE-MISSING", f"{path}: {error.strerror}; name a recipe file") from error
    document = strict_yaml.read(content, path.name)
    for change in changes:
        _change(document.values, change)
    return parse(document, path.name)


def parse(document: strict_yaml.Document, name: str) -> Recipe:
    """The recipe that a read document describes; `name` is what errors call it."""
    try:
        recipe = Recipe.model_validate_json(_json(document.values))
    except ValidationError as error:
        faults = _faults(error, document)
        raise BadInput("E-RECIPE", f"{name}: {listed(faults)}") from error
    if faults := [f"{_where(place, document)}: {fault}" for place, fault in _misfits(recipe)]:
        raise BadInput("E-RECIPE", f"{name}: {listed(faults)}")
    return recipe


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values).encode()  # .nan and .inf pass here; pydantic refuses them by the field's name


def _change(values: dict[str, Any], change: str) -> None:
    dotted, found, text = change.partition("=")
    keys = dotted.split(".")
    if not found or not all(keys):
        raise BadInput("E-SET", f"--set {change!r:.80}: wanted section.key=value, for example train.epochs=2")
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise BadInput("E-SET", f"--set {change!r:.80}: {key} is {inner!r:.40}, not a section")
        values = inner
    values[keys[-1]] = strict_yaml.read(f"value: {text}".encode(), f"--set {dotted}").values["value"]


def _faults(error: ValidationError, document: strict_yaml.Document) -> list[str]:
    places = [tuple(part for part in fault["loc"] if not str(part).startswith("·")) for fault in error.errors()]
    return [_fault(fault, place, document) for fault, place in zip(error.errors(), places, strict=True)]


def _fault(fault: Any, place: strict_yaml.Path, document: strict_yaml.Document) -> str:
    where = _where(place, document)
    if fault["type"] == "extra_forbidden":
        return f"{where}: unknown key{_meant(str(place[-1]), _keys(place[:-1]))}"
    if fault["type"] == "missing":
        return f"{where}: missing, and it has no default"
    wanted = fault["msg"]
    for theirs, ours in _WORDING.items():
        wanted = re.sub(f"^{theirs}", ours, wanted)
    shown = "" if "not shown" in wanted else f"found {_shown(fault['input'])}, "
    return f"{where}: {shown}wanted {wanted}"


def _where(place: strict_yaml.Path, document: strict_yaml.Document) -> str:
    dotted = ".".join(map(str, place)) or "recipe"
    line = next((document.lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in document.lines), None)
    return f"line {line} {dotted}" if line else dotted


def _shown(value: Any) -> str:
    return "a mapping" if isinstance(value, dict) else "a list" if isinstance(value, list) else f"{value!r:.60}"


def _meant(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _keys(place: strict_yaml.Path) -> list[str]:
    """The keys that a section may have, whichever form it takes."""
    sections: list[type[Section]] = [Recipe]
    for part in place:
        fields = [section.model_fields[part] for section in sections if part in section.model_fields]
        sections = [section for field in fields for section in _sections(field.annotation)]
    return [key for section in sections for key in section.model_fields]


def _sections(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for argument in get_args(annotation) for section in _sections(argument)]


def _misfits(recipe: Recipe) -> Iterator[tuple[strict_yaml.Path, str]]:
    """Faults that only show when sections are seen together, each with its place."""
    problem = recipe.problem
    for role in recipe.data.__pydantic_extra__:
        if role not in problem.roles:
            keys = (*problem.roles, *Data.model_fields)
            yield (
                ("data", role),
                f"unknown key{_meant(role, keys)}; columns of {recipe.task}: {', '.join(problem.roles)}",
            )
    for section, metric, known in (
        ("train", recipe.train.metric, (*problem.watched, "loss")),
        ("exam", recipe.exam.metric, problem.metrics),
    ):
        if metric not in (None, *known):
            yield (section, "metric"), f"found {metric!r}, wanted a metric of {recipe.task}: {', '.join(known)}"
    floored = tuple(f"{kind}_per_class" for kind in KINDS) if problem.labelled else ()
    known = (*problem.metrics, *floored)
    for floor in recipe.gate.floors:
        if floor not in known:
            yield ("gate", "floors", floor), f"unknown metric{_meant(floor, known)}, wanted one of {', '.join(known)}"
    own = recipe.tokens.tokenizer
    if own != "base" and own.train == "byte-bpe" and own.vocabulary < BYTES:
        found = f"found {own.vocabulary}, wanted {BYTES} or more: 256 bytes and 5 special tokens"
        yield ("tokens", "tokenizer", "vocabulary"), found
    if recipe.package.decoding != Decoding() and not problem.generates:
        yield ("package", "decoding"), f"found a mapping, wanted none: {recipe.task} writes no texts"
    if recipe.train.sharding == "full" and recipe.train.launch != "torchrun":
        yield ("train", "sharding"), f"found 'full' with launch {recipe.train.launch!r}, wanted launch 'torchrun'"
    yield from _untimely(recipe)
    split = recipe.data.split
    if split.validation + split.test >= 1:
        found = f"found validation {split.validation:g} and test {split.test:g}"
        yield ("data", "split"), f"{found}, wanted a sum below 1 that leaves rows to train on"


def _untimely(recipe: Recipe) -> Iterator[tuple[strict_yaml.Path, str]]:
    """Faults of what says when and where a recipe runs."""
    names = [schedule.name for schedule in recipe.schedule]
    for number, schedule in enumerate(recipe.schedule):
        clocks = [name for name in ("cron", "interval", "rrule") if getattr(schedule, name) is not None]
        if len(clocks) != 1:
            found = " and ".join(clocks) or "none"
            yield ("schedule", number), f"found {found}, wanted exactly one of cron, interval and rrule"
        if schedule.name in names[:number]:
            yield ("schedule", number), f"found {schedule.name!r} again, wanted each once, with a slug of its own"
        for fault in _unchangeable(recipe, schedule.set) if schedule.set else ():
            yield ("schedule", number, "set"), fault
    decay = recipe.triggers.decay if recipe.triggers else None
    if decay and decay.metric not in recipe.problem.metrics:
        known = ", ".join(recipe.problem.metrics)
        yield ("triggers", "decay", "metric"), f"found {decay.metric!r}, wanted a metric of {recipe.task}: {known}"
    if (recipe.work.image is None) != (recipe.work.type == "process"):
        found = f"found {recipe.work.image or 'none'}"
        wanted = "none for a process" if recipe.work.image else f"the image that {recipe.work.type} runs"
        yield ("work", "image"), f"{found}, wanted {wanted}"


def _unchangeable(recipe: Recipe, changes: dict[str, Any]) -> list[str]:
    try:
        return [f"{'.'.join(map(str, place))}: {fault}" for place, fault in _misfits(recipe.changed(changes))]
    except ValidationError as error:
        return _faults(error, strict_yaml.Document({}))
    except ValueError as error:
        return [f"wanted {error}"]
