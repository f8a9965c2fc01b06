"""Answers as SQuAD and CMRC measure them, by hand."""

import pytest

from tasks.metrics import answers
from tests.tasks.metrics.scores import scores


@pytest.mark.parametrize(
    ("truth", "predicted", "exact", "f1"),
    [
        ("Denver Broncos", "The Denver Broncos!", 1, 1),  # article, case and punctuation
        ("Denver Broncos", "Broncos of Denver", 0, 2 * 2 / (2 + 3)),  # the order of words does not count
        ("a cat a cat", "cat", 0, 2 * 1 / (2 + 1)),  # a word counts as often as it is in both
        ("the", "a", 1, 1),  # nothing but articles is nothing
        (["gold", "golden anniversary"], "golden", 0, 2 * 1 / (2 + 1)),  # the best of several
        (["1967", "in 1967"], "in  1967", 1, 1),
        ("it's", "its", 1, 1),
        ("theatre", "theatre", 1, 1),  # no article inside a word
        ([], "", 1, 1),  # SQuAD 2: no answer, and none was given
        ([], "Broncos", 0, 0),
        (["", "Broncos"], "", 0, 0),  # an empty true answer counts only alone
        ("red", "blue", 0, 0),
        ("北京大学", "北京大学。", 1, 1),
        ("北京大学", "在北京", 0, 2 * 2 / (4 + 3)),  # 北京 in common, of 4 and of 3 characters
        ("北京大学", "大学北京", 0, 2 * 2 / (4 + 4)),  # the order of characters does: the longest run is 2
        ("《红楼梦》", "红楼梦", 1, 1),
        ("1998年 Windows", "1998年", 0, 2 * 2 / (3 + 2)),  # 1998, 年 and windows
    ],
)
def test_an_answer_by_hand(truth: str | list[str], predicted: str, exact: float, f1: float) -> None:
    found = scores(answers.marks([truth], [predicted]), answers.METRICS)
    assert found == pytest.approx({"exact_match": exact, "f1": f1})


def test_the_score_of_many_is_their_mean() -> None:
    marks = answers.marks(["red", "北京", ["one", "two"]], ["red", "北海", "three"])
    assert scores(marks, answers.METRICS) == pytest.approx({"exact_match": 1 / 3, "f1": (1 + 0.5 + 0) / 3})
    assert marks.per_class("f1") == {}
