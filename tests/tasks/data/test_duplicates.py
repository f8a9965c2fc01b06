"""The near search against the plain definition, exact repetitions against plain sets."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data import duplicates
from tasks.data.duplicates import NONE

FEW_WORDS = st.lists(st.sampled_from("abcd"), max_size=14).map(" ".join)
FEW_SIGNS = st.text("天地人和", max_size=16)


def plain_set(text: str) -> set[str]:
    """The definition, for texts without punctuation."""
    if duplicates.is_spaced(text):
        words = text.casefold().split()
        return {" ".join(words[i : i + 3]) for i in range(len(words) - 2)}
    return {text[i : i + 5] for i in range(len(text) - 4)}


def found(train: list[str], held: list[str], similarity: float) -> dict[int, float]:
    index = duplicates.Index(duplicates.grams(held, np.arange(len(held))))
    matches = index.matches(duplicates.grams(train, np.arange(len(train))), similarity)
    return {match.row: match.similarity for match in matches}


@settings(deadline=None, max_examples=200)
@given(
    st.lists(FEW_WORDS | FEW_SIGNS, min_size=1, max_size=12),
    st.lists(FEW_WORDS | FEW_SIGNS, min_size=1, max_size=12),
    st.sampled_from([0.1, 0.3, 0.5, 2 / 3, 0.7, 0.75, 0.8, 0.9, 1.0]),
)
def test_the_near_search_finds_what_the_definition_finds(train: list[str], held: list[str], similarity: float) -> None:
    wanted = {}
    for i, text in enumerate(train):
        mine = plain_set(text)
        scores = [len(mine & other) / len(mine | other) for other in map(plain_set, held) if mine and other]
        if scores and max(scores) >= similarity:
            wanted[i] = max(scores)
    assert found(train, held, similarity) == pytest.approx(wanted)


def test_case_and_punctuation_do_not_hide_a_neighbour() -> None:
    assert found(["Why did my TOP-UP get reverted?"], ["why did my top up get reverted"], 0.9) == {0: 1.0}


def test_one_changed_word_at_the_end_of_twenty_one_is_near_and_of_twenty_is_not() -> None:
    words = [f"w{i}" for i in range(21)]
    assert found([" ".join([*words, "x"])], [" ".join([*words, "y"])], 0.9) == {0: pytest.approx(19 / 21)}
    assert found([" ".join([*words[:-1], "x"])], [" ".join([*words[:-1], "y"])], 0.9) == {0: pytest.approx(0.9)}
    assert found([" ".join([*words[:-2], "x"])], [" ".join([*words[:-2], "y"])], 0.9) == {}


def test_texts_shorter_than_an_ngram_have_no_neighbour() -> None:
    assert found(["yes please", "thanks", "", "好的"], ["yes please", "thanks", "", "好的"], 0.1) == {}


def test_chinese_is_compared_by_characters() -> None:
    assert not duplicates.is_spaced("今天北京的天气怎么样")
    assert duplicates.is_spaced("The word 天气 means weather")
    assert found(
        ["今天北京的天气怎么样呢我想知道明天会不会下雨啊"], ["今天北京的天气怎么样呢我想知道明天会不会下雨吗"], 0.85
    ) == {0: pytest.approx(18 / 20)}


def test_nothing_to_compare_with_finds_nothing() -> None:
    empty = duplicates.Index(duplicates.joined([]))
    assert empty.matches(duplicates.grams(["one two three four"], np.arange(1)), 0.5) == []


def test_parts_joined_find_the_same_as_the_whole() -> None:
    held = ["one two three four", "five six seven eight", "nine ten eleven twelve"]
    parts = [duplicates.grams(held[i : i + 1], np.array([10 * i])) for i in range(3)]
    index = duplicates.Index(duplicates.joined(parts))
    (match,) = index.matches(duplicates.grams(["Nine ten eleven twelve"], np.array([5])), 0.9)
    assert match == (5, 20, 1.0)


def test_rows_of_one_template_are_told_apart_in_reasonable_time() -> None:
    boiler = [f"w{i}" for i in range(40)]
    texts = [" ".join([*boiler[: i % 39], str(i), *boiler[i % 39 :]]) for i in range(3000)]
    began = time.process_time()
    near = found(texts[500:], texts[:500], 0.9)
    assert time.process_time() - began < 5
    ends = [i for i in range(2500) if (i + 500) % 39 == 0]  # a number at the beginning spoils one 3-gram of 39
    assert set(ends) <= set(near)


def test_folding_joins_spellings_and_spaces_but_keeps_case() -> None:
    assert duplicates.fold(" caf\u00e9\n au\xa0 lait ") == duplicates.fold("cafe\u0301 au lait")
    assert duplicates.fold("A") != duplicates.fold("a")


def test_folding_a_hostile_run_of_marks_takes_less_than_a_second() -> None:
    began = time.process_time()
    duplicates.fold("e" + "\u0301\u0323" * 50_000)
    assert time.process_time() - began < 1


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2), st.booleans(), st.integers(0, 3)), max_size=40))
def test_repetitions_point_to_the_first_row_of_their_kind(rows: list[tuple[int, int, bool, int]]) -> None:
    types = (np.int64, np.int64, np.bool_, np.int64)
    texts, answers, among, ranks = (np.array([row[i] for row in rows], type) for i, type in enumerate(types))
    kinds: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for i, (text, answer, counted, rank) in enumerate(rows):
        if counted:
            kinds.setdefault((text, answer), []).append((rank, i))
    wanted = [NONE] * len(rows)
    for places in kinds.values():
        first = min(places)[1]
        for _, i in places:
            wanted[i] = NONE if i == first else first
    assert duplicates.repeats(texts, answers, among, ranks).tolist() == wanted


def test_twins_point_to_the_first_held_row_of_the_same_text() -> None:
    texts = np.array([1, 0, 1, 2, 1])
    held = np.array([False, False, True, True, True])
    assert duplicates.twins(texts, ~held, held).tolist() == [2, NONE, NONE, NONE, NONE]


def test_conflicts_are_texts_with_several_answers() -> None:
    texts, answers = np.array([3, 1, 3, 1, 3]), np.array([0, 1, 1, 1, 0])
    every = np.ones(5, np.bool_)
    assert [run.tolist() for run in duplicates.conflicts(texts, answers, every)] == [[0, 2, 4]]
    assert duplicates.conflicts(texts, answers, answers == 0) == []


def test_similarity_borders_are_not_lost_to_rounding() -> None:
    for size in range(1, 200):
        for similarity in (0.1, 0.3, 0.7, 0.9):
            wanted = math.ceil(round(similarity * 10) * size / 10)
            assert math.ceil(similarity * size - 1e-9) == wanted
