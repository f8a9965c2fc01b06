"""A model's answers to rows as tasks for Label Studio, the least certain first: they are worth a person's time most.

Fields and controls have the names of the recipe's columns, so the recipe that made the model reads the tasks back:
annotated ones as rows of a person, the others as automatic ones with their confidence. Of tasks that were labelled
before, those that a person annotated in this column are left out, and of the others only the data are taken: what a
model said in another column would come back as a person's. All rows are held in memory.
"""

import logging
from pathlib import Path
from typing import Any, NamedTuple

from flows import explain
from tasks import stages
from tasks.data import sources
from tasks.data.ingest import everything
from tasks.data.readers.labelled import CONFIDENCE, written
from tasks.data.readers.lines import Row, Unfit
from tasks.data.readers.roles import Fitted, fitted
from tasks.errors import BadInput, listed
from tasks.model import hardware
from tasks.model.bundle import Model
from tasks.problems.contract import Prediction
from tasks.recipe import Recipe
from tasks.recipe.sections import checked_location
from tasks.records import Bundle

log = logging.getLogger("vernal.label")


class Labelled(NamedTuple):
    """A row with the answer to it."""

    row: Fitted
    answer: Prediction

    @property
    def confidence(self) -> float:
        score = self.answer.score if self.answer.least is None else self.answer.least
        assert isinstance(score, float)
        return score


def label(reference: str, source: str) -> list[dict[str, Any]]:
    """The tasks of all rows that can be answered; how many cannot is logged.

    Raises:
        BadInput: E-REG-MISSING, E-LABEL-TASK; E-DATA-EMPTY, there is nothing to answer; what is wrong with the source.
        Corrupt: E-GOLDEN, the bundle does not answer as it was packaged.
    """
    version = explain.version_of(reference)
    what = explain.recipe_of(version)
    if list(what.problem.answers.values()) not in (["label"], ["labels"]):
        wanted = "one that gives a label, or several, to a whole row"
        raise BadInput("E-LABEL-TASK", f"{version.name}@{version.number} is a model of {what.task}; wanted {wanted}")
    rows = read(source, what)
    bundle = stages.by_digest("package", Bundle, version.bundle)
    with stages.workplace("label") as folder:
        model = Model.load(stages.checkout(bundle.files, folder), hardware.chosen())
        model.check()
        answers = model.predict([row.values for row in rows])
    found = [Labelled(*each) for each in zip(rows, answers, strict=True)]
    found.sort(key=lambda each: each.confidence)
    return [task(each, what, f"{version.name}@{version.number}") for each in found]


def read(source: str, what: Recipe) -> list[Fitted]:
    """The rows of a source that have the inputs of a recipe, and no person's answer to a task.

    Raises:
        BadInput: E-DATA-EMPTY, there is none.
    """
    try:
        checked_location(source)
    except ValueError as error:
        raise BadInput("E-SOURCE-SCHEME", f"what is to be labelled is no place of rows; wanted {error}") from error
    ((role, kind),) = what.problem.answers.items()
    control = what.data.columns(what.problem)[role]
    rows, faults, annotated = [], [], 0
    for place, _, found in everything(sources.resolve(source, Path.cwd())):
        try:
            if not isinstance(found, Row):
                raise Unfit(found.reason, found.detail)
            if found.annotated and (kind == "labels" or found.values.get(control) is not None):
                annotated += 1
                continue
            values = found.values if found.data is None else found.data
            rows.append(fitted(values, what.problem, what.data, answered=False))
        except Unfit as unfit:
            faults.append(f"{place} {unfit.detail}")
    if not rows:
        why = f"none of {len(faults)} rows can be answered: {listed(faults)}" if faults else "no rows"
        done = f", besides {annotated} that a person annotated" if annotated else ""
        raise BadInput("E-DATA-EMPTY", f"{source}: {why}{done}; name a source that has some")
    left = listed(faults) or "none"
    log.info("%d rows; annotated: %d; left out, since they cannot be answered: %s", len(rows), annotated, left)
    return rows


def task(labelled: Labelled, what: Recipe, model: str) -> dict[str, Any]:
    """A row and its answer, as Label Studio imports them."""
    columns, row = what.data.columns(what.problem), labelled.row
    (control,) = (columns[role] for role in what.problem.answers)
    inputs = {columns[role]: value for role, value in row.values.items()}
    others = {name: value for name, value in row.extra.items() if name != CONFIDENCE}
    answer = labelled.answer.answer
    choices = answer if isinstance(answer, list) else [answer]
    kept = {name: value for name, value in ((what.data.time, row.time), (what.data.group, row.group)) if name and value}
    return written(inputs | kept | others, control, next(iter(inputs)), choices, labelled.confidence, model)
