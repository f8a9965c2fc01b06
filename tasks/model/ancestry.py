"""Whom a model comes from, and which rows of an exam they have learned already.

A base that is a version of ours brings along what it was trained on, and so do the bases that it came from. A row that
one of them learned says nothing of rows that are new, so it is left out of the exam; so are in the gate those that the
champion learned. A row counts as learned if each text of it stands, folded, somewhere in their training or validation
rows, whatever it was learned for; near copies are not looked for. The rows that the exam was divided from are left to
`validate`, which takes out what stands on both sides unless the recipe says `leaks: keep`.
"""

import logging
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tasks import problems, stages
from tasks.data import examples
from tasks.data.duplicates import digest, fold
from tasks.errors import BadInput, Missing
from tasks.model.exam import SMALLEST_SLICE, Exam
from tasks.problems.contract import Problem, Row
from tasks.records import Bundle, Checked, Checkpoint

WEIGHTS = "model.safetensors"

log = logging.getLogger("vernal.ancestry")


def base_of(bundle: Bundle) -> Checkpoint:
    """The base that a bundle was trained from."""
    trained = stages.by_digest("finetune", Checkpoint, bundle.parents[0])
    return stages.by_digest("load", Checkpoint, trained.parents[0])


def ancestors(bundle: Bundle) -> Iterator[Bundle]:
    """The bundles of ours that a bundle comes from, the nearest first; by their weights, wherever these were found."""
    found: Bundle | None = bundle
    passed = {bundle.digest}
    while found:
        weights = base_of(found).files.get(WEIGHTS)
        every = stages.every("package", Bundle) if weights else ()
        same = (each for each in every if each.files.get(WEIGHTS) == weights and each.digest not in passed)
        found = next(same, None)
        if found:
            passed.add(found.digest)
            yield found


def unseen(exam: Exam, checked: Checked, models: Iterable[Bundle]) -> npt.NDArray[np.bool_]:
    """Which rows of an exam none of the models learned; `checked` is what they are the test split of.

    Raises:
        BadInput: E-EXAM-SEEN, so many are left out that a score of the others says nothing.
    """
    asked = [_texts(exam.problem.said(row)) for row in exam.rows]
    wanted, seen = set().union(*asked), np.zeros(len(asked), np.bool_)
    for digest_of_rows, task in {each.parents[2]: each.task for each in models}.items():
        if digest_of_rows != checked.digest:
            known = _learned(digest_of_rows, problems.named(task), wanted)
            seen |= np.array([texts <= known for texts in asked])
    left = int((~seen).sum())
    if seen.any() and left < SMALLEST_SLICE:
        message = f"{left} of {len(asked):,} test rows are new to the models compared and those that they come from"
        raise BadInput("E-EXAM-SEEN", f"{message}; wanted {SMALLEST_SLICE} or more: name other test rows")
    return ~seen


def _learned(rows: str, problem: Problem, wanted: set[bytes]) -> set[bytes]:
    """Those of the wanted texts that stand in the training or validation rows of a Checked."""
    found: set[bytes] = set()
    try:
        checked = stages.by_digest("validate", Checked, rows)
        for split in ("train", "validation"):
            for row in examples.rows(stages.open_file(checked.files[f"{split}.parquet"]), problem):
                found |= _texts(_read(problem, row)) & wanted
    except Missing as error:
        log.warning("what a model before learned is not in the store any more, so none of it is left out: %s", error)
    return found


def _read(problem: Problem, row: Row) -> Iterator[str]:
    """The texts of a row that are learned: what is said, and what is to be written."""
    yield from problem.said(row)
    if problem.generates:
        yield from problem.told(row)


def _texts(texts: Iterable[str]) -> set[bytes]:
    return {digest(fold(text)) for text in texts}
