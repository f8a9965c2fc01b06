"""Counts of characters tell a text as they were seen to follow each other."""

import math

import pytest

from tasks.metrics.ngrams import Ngrams


def test_probabilities_are_those_of_the_formula_by_hand() -> None:
    known = Ngrams(2, ["ab", "ab"])  # what follows: nothing: a b end, twice each; a: b twice; b: end twice
    base = 1 / 4  # a, b, the end, and what was not seen
    unigram = (2 + 3 * base) / (6 + 3)
    after = (2 + 1 * unigram) / (2 + 1)
    nats, right, told = known.tell("ab")
    assert nats == pytest.approx(-math.log(unigram) - 2 * math.log(after))
    assert (right, told) == (2, 3)


@pytest.mark.parametrize("history", ["", "a", "br", "zz"])
def test_after_any_history_all_characters_and_the_end_are_certain_in_sum(history: str) -> None:
    known = Ngrams(3, ["abracadabra", "alakazam"])
    characters = sorted({*"abracadabra", *"alakazam", "\0", "?"})  # the last one stands for all that was not seen
    assert sum(known.chance(history, each)[0] for each in characters) == pytest.approx(1)


def test_what_was_never_seen_is_unlikely_and_not_impossible() -> None:
    known = Ngrams(5, ["to be or not to be"] * 3)
    seen, unseen = known.tell("to be")[0], known.tell("xyzzy")[0]
    assert seen < unseen < math.inf
