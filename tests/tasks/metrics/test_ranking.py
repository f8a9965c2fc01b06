"""Orders measured as sklearn measures them, ties included, and by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score, roc_auc_score

from tasks.metrics import ranking
from tests.tasks.metrics.scores import scores

ROWS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), min_size=2, max_size=30)


@examples(max_examples=150, deadline=None)
@given(rows=ROWS)
def test_auc_and_ndcg_equal_sklearns_ties_included(rows: list[tuple[int, int]]) -> None:
    truth, score = (np.array(side, float) for side in zip(*rows, strict=True))
    found = scores(ranking.marks(truth, score, ["all"] * len(rows)), ranking.METRICS)
    assert found["ndcg_10"] == pytest.approx(ndcg_score([truth], [score], k=10))
    both = 0 < (truth > 0).sum() < len(truth)
    assert found["auc"] == pytest.approx(roc_auc_score(truth > 0, score) if both else 0.5)


def test_groups_on_paper() -> None:
    truth = [0, 1, 0, 1, 0, 0]
    score = [0.9, 0.5, 0.1, 0.8, 0.2, 0.2]
    group = ["a", "a", "a", "b", "b", "b"]
    found = scores(ranking.marks(truth, score, group), ranking.METRICS)
    # in a it is second, in b first; of 8 pairs, 0.9 above 0.5 and above 0.8 are in the wrong order
    expected = {
        "mrr": 3 / 4,
        "hit_1": 1 / 2,
        "hit_3": 1,
        "hit_10": 1,
        "auc": 6 / 8,
        "ndcg_10": (1 / np.log2(3) + 1) / 2,
    }
    assert found == pytest.approx(expected)


def test_groups_may_lie_apart_and_be_lists_of_their_own() -> None:
    truth, score = [0, 1, 1, 0, 0, 0], [0.9, 0.8, 0.5, 0.2, 0.1, 0.2]
    apart = ranking.marks(truth, score, [7, 3, 7, 3, 7, 3])
    lists = ranking.lists([[0, 1, 0], [1, 0, 0]], [[0.9, 0.5, 0.1], [0.8, 0.2, 0.2]])
    assert scores(apart, ranking.OF_GROUPS) == scores(lists, ranking.OF_GROUPS)
    assert (len(apart), len(lists)) == (6, 2)


def test_who_scores_all_alike_has_found_nothing() -> None:
    found = scores(ranking.lists([[1, 0, 0, 0]], [[0.5] * 4]), ranking.OF_GROUPS)
    assert (found["hit_1"], found["hit_3"], found["hit_10"], found["mrr"]) == (0, 0, 1, 1 / 4)


def test_a_list_with_nothing_relevant_earns_nothing() -> None:
    assert set(scores(ranking.lists([[0, 0]], [[0.1, 0.2]]), ranking.OF_GROUPS).values()) == {0.0}


def test_without_groups_there_is_only_auc() -> None:
    marks = ranking.marks([0, 1], [0.1, 0.2])
    assert float(marks.score("auc")) == 1
    with pytest.raises(ValueError, match="no metric"):
        marks.score("mrr")
