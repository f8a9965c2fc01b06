"""What an answer hangs on: by how much its log odds fall when a word of the row is taken away.

Odds, since the probability of a sure answer hardly moves: from 0.996 to 0.99 is less than half of the odds.

Occlusion (of pictures: Zeiler and Fergus 2014; of words: Li, Monroe and Jurafsky 2016) asks the model itself and
nothing of its inside, so it holds for every base, a module of the user's own included; it costs a pass over a row for
each of its words. Whether it tells the truth is measured: the answer has to suffer more without the words that weigh
most than without as many others.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from tasks.metrics.words import spans
from tasks.model.bundle import Model
from tasks.model.exam import Sitting
from tasks.problems.contract import Floats, Problem, Row
from tasks.problems.text_classification import sigmoid

ROWS = 8  # that are explained
PARTS = 64  # of a row that are taken away; of a longer one each is several words
DELETED = 2  # parts that are taken away together to see whether the weights are right


class Part(NamedTuple):
    """Words of a row that are taken away together."""

    role: str
    start: int  # characters
    end: int


def explains(problem: Problem) -> bool:
    """Whether rows of the problem are texts with one label, which is what is explained here."""
    return list(problem.answers.values()) == ["label"] and set(problem.inputs.values()) == {"text"}


def explained(sitting: Sitting, model: Model) -> dict[str, Any]:
    """The rows that were answered wrongly with the most confidence, then rightly, and the weights of their parts.

    Returns:
        `rows`: truth, answer, its probability and for each text its parts in their order as [text, weight in nats];
        `weightiest` and `others`: how much probability the answer loses without `deleted` parts of either, means over
        these rows.
    """
    rows, lost = [], []
    draw = np.random.default_rng(0)
    for number, parts in islice(most_confident(sitting), ROWS):
        row, answer = sitting.exam.rows[number], sitting.predicted[number]
        whole, *fallen = log_odds(model, [row, *(without(row, [part]) for part in parts)], answer)
        weights = whole - np.array(fallen)
        order = np.argsort(-weights, kind="stable")
        taken = (order[:DELETED], draw.choice(order[DELETED:], DELETED, replace=False))
        left = log_odds(model, [without(row, [parts[at] for at in each]) for each in taken], answer)
        chance = float(sigmoid(whole))
        lost.append(chance - sigmoid(left))
        texts = [
            [
                [row[role][part.start : part.end], float(weight)]
                for part, weight in zip(parts, weights, strict=True)
                if part.role == role
            ]
            for role in sitting.exam.problem.inputs
        ]
        rows.append({"truth": sitting.exam.truth[number], "answer": answer, "chance": chance, "texts": texts})
    weightiest, others = np.mean(lost, axis=0).tolist() if lost else (0.0, 0.0)
    return {"rows": rows, "deleted": DELETED, "weightiest": weightiest, "others": others}


def most_confident(sitting: Sitting) -> Iterator[tuple[int, list[Part]]]:
    """Numbers and parts of the rows that have enough of them: mistakes first, of the most probable answer first.

    Not of rows that were cut: what the model did not read has no weight, and takes its place when a word goes.
    """
    right = np.array([guess == true for guess, true in zip(sitting.predicted, sitting.exam.truth, strict=True)])
    scores = np.array([each.score for each in sitting.answers], float)
    for number in np.lexsort((-scores, right)).tolist():
        parts = parts_of(sitting.exam.problem, sitting.exam.rows[number])
        if len(parts) >= 2 * DELETED and not sitting.answers[number].truncated:
            yield number, parts


def parts_of(problem: Problem, row: Row) -> list[Part]:
    """The words of a row's texts, at most PARTS in all."""
    found = []
    for role in problem.inputs:
        words = spans(row[role])
        groups = np.array_split(np.array(words), min(len(words), PARTS // len(problem.inputs))) if words else []
        found += [Part(role, int(group[0, 0]), int(group[-1, 1])) for group in groups]
    return found


def without(row: Row, parts: Iterable[Part]) -> Row:
    """The row with these parts cut out of its texts."""
    left = dict(row)
    for part in sorted(parts, key=lambda part: -part.start):
        left[part.role] = left[part.role][: part.start] + left[part.role][part.end :]
    return left


def log_odds(model: Model, rows: list[Row], label: str) -> Floats:
    """ln p / (1 - p) of the label for each row, (rows,): its logit above what the others come to together."""
    logits = np.stack(model.outputs(model.problem.given(model, rows))).astype(np.float64)
    place = model.labels.index(label)
    return np.asarray(logits[:, place] - np.logaddexp.reduce(np.delete(logits, place, axis=1), axis=1))
