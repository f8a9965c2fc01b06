"""Rows that are put in order by a score: over all of them (AUC), or in groups such as the results of one query.

AUC is the share of pairs of a relevant and another row that are in the right order, a tie counting half (Mann & Whitney
1947). NDCG is Järvelin & Kekäläinen's (2002) with plain gains; both equal sklearn's. For hits and reciprocal rank, a
tie counts against the model: who scores all alike has found nothing.
"""

from collections.abc import Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.metrics.columns import Columns, ranks
from tasks.metrics.marks import Floats
from tasks.metrics.sums import Sums, beside, mean, ratio

CUT = 10  # places that NDCG looks at
HITS = (1, 3, 10)
OF_GROUPS = ("ndcg_10", "mrr", *(f"hit_{places}" for places in HITS))  # MLflow knows no metric with an @
METRICS = ("auc", *OF_GROUPS)


def marks(
    truth: npt.ArrayLike, predicted: npt.ArrayLike, groups: Sequence[Hashable] | None = None, *, least: float = 0.0
) -> Columns:
    """The marks of rows; without groups there is only AUC.

    A group's marks stand on its first row: a resample of rows is then one of whole groups.

    Args:
        truth: (rows,) relevance from 0.
        predicted: (rows,) scores, higher is better.
        least: relevance that counts as such where AUC asks for yes or no; 0: any that is above.
    """
    relevance, score = np.asarray(truth, np.float64), np.asarray(predicted, np.float64)
    relevant = relevance >= least if least else relevance > 0
    columns = {"truth": relevant.astype(np.float64), "predicted": score}
    if groups is None:
        return Columns(columns, {"auc": auc})
    columns |= {name: np.zeros(len(score)) for name in ("first", *OF_GROUPS)}
    members: dict[Hashable, list[int]] = {}
    for row, group in enumerate(groups):
        members.setdefault(group, []).append(row)
    for rows in members.values():
        for name, value in {"first": 1.0, **of_list(relevance[rows], score[rows])}.items():
            columns[name][rows[0]] = value
    return Columns(columns, {"auc": auc, **{name: partial(_of_groups, name) for name in OF_GROUPS}})


def lists(truth: Sequence[npt.ArrayLike], predicted: Sequence[npt.ArrayLike]) -> Sums:
    """The marks of rows that are each a whole list: relevance and score of its candidates."""
    rows = [
        of_list(np.asarray(true, np.float64), np.asarray(guess, np.float64))
        for true, guess in zip(truth, predicted, strict=True)
    ]
    return beside({name: mean([row[name] for row in rows]) for name in OF_GROUPS})


def auc(of: Mapping[str, Floats], weights: Floats) -> Floats:
    """Area under the ROC curve in each resample; 0.5 where one side is missing."""
    positive = weights * (of["truth"] > 0)
    count = positive.sum(-1)
    pairs = count * (weights.sum(-1) - count)
    won = (positive * ranks(of["predicted"], weights)).sum(-1) - count * (count + 1) / 2
    return np.where(pairs > 0, ratio(won, pairs), 0.5)


def of_list(relevance: Floats, score: Floats) -> dict[str, float]:
    """NDCG, reciprocal rank and hits of one list, each 0 if nothing in it is relevant."""
    found = relevance > 0
    ahead = int((score[~found] >= score[found].max()).sum()) if found.any() else len(score)
    hits = {f"hit_{places}": float(found.any() and ahead < places) for places in HITS}
    return {"ndcg_10": _ndcg(relevance, score), "mrr": float(found.any()) / (1 + ahead), **hits}


def _ndcg(relevance: Floats, score: Floats) -> float:
    """Rows that tie share the mean of their gains, which is the mean over all their orders."""
    _, place, size = np.unique(-score, return_inverse=True, return_counts=True)
    shared = (np.bincount(place, relevance) / size)[np.sort(place)]
    discount = 1 / np.log2(np.arange(min(CUT, len(score))) + 2)
    gained, ideal = (float(each[: len(discount)] @ discount) for each in (shared, -np.sort(-relevance)))
    return gained / ideal if ideal else 0.0


def _of_groups(name: str, of: Mapping[str, Any], weights: Floats) -> Floats:
    return ratio(weights @ of[name], weights @ of["first"])
