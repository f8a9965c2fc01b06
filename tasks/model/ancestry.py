"""Whom a model comes from, and which rows of an exam they have learned already.

A base that is a version of ours brings along what it was trained on, and so do the bases that it came from. A row that
one of them learned says nothing of rows that are new, so it is left out of the exam; so are in the gate those that the
champion learned. Rows are the same if their folded texts are, whatever they were learned for.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from tasks import problems, stages
from tasks.data import examples
from tasks.data.duplicates import digest, fold
from tasks.errors import BadInput
from tasks.model.exam import Exam
from tasks.problems.contract import Problem, Row
from tasks.records import Bundle, Checked, Checkpoint


def base_of(bundle: Bundle) -> Checkpoint:
    """The base that a bundle was trained from."""
    trained = stages.by_digest("finetune", Checkpoint, bundle.parents[0])
    return stages.by_digest("load", Checkpoint, trained.parents[0])


def ancestors(bundle: Bundle) -> Iterator[Bundle]:
    """The bundles of ours that a bundle comes from, the nearest first."""
    found: Bundle | None = bundle
    while found:
        parents = base_of(found).parents
        found = stages.known("package", Bundle, parents[0]) if parents else None
        if found:
            yield found


def unseen(exam: Exam, checked: Checked, models: Iterable[Bundle]) -> npt.NDArray[np.bool_]:
    """Which rows of an exam none of the models learned from; `checked` is what they are the test split of.

    Raises:
        BadInput: E-EXAM-SEEN, there is no such row.
    """
    asked = np.array([_name(exam.problem, row) for row in exam.rows])
    learned = {each.parents[2]: each.task for each in models}
    learned.pop(checked.digest, None)  # validate has seen to it that none of its rows stands on both sides
    seen = np.zeros(len(asked), np.bool_)
    for rows, task in learned.items():
        problem = problems.named(task)
        train = stages.by_digest("validate", Checked, rows).files["train.parquet"]
        names = {_name(problem, row) for row in examples.rows(stages.open_file(train), problem)}
        seen |= np.array([name in names for name in asked])
    if len(asked) and seen.all():
        message = f"all {len(asked):,} test rows were learned by a model that is compared here, or by one it comes from"
        raise BadInput("E-EXAM-SEEN", f"{message}; name test rows that are new to them, or take another base")
    return ~seen


def _name(problem: Problem, row: Row) -> bytes:
    return digest(fold(" ".join(problem.said(row))))
