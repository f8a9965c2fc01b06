"""Which tag may follow which, and the likeliest row that keeps to it, against every row there is."""

from itertools import pairwise, product

import numpy as np
import pytest

from tasks.schemes import likeliest, respelled, scheme_of

IOB2 = ("O", "B-PER", "I-PER", "B-ORG", "I-ORG")
IOBES = ("O", "B-PER", "I-PER", "E-PER", "S-PER")
BILOU = ("O", "B-PER", "I-PER", "L-PER", "U-PER")
BMES = ("O", "B-PER", "M-PER", "E-PER", "S-PER")
IO = ("O", "I-PER", "I-ORG")
WORDS = ("NN", "VB", "DT")


def valid(row: tuple[str, ...]) -> bool:
    """By hand: an entity opens with B or S, goes on in its own type, and is closed where the scheme closes."""
    closing = any(tag[0] in "EL" and "-" in tag for tag in CLOSED)
    for before, tag in pairwise(("O", *row, "O")):
        inside = tag[0] in "IMEL" and "-" in tag
        if inside and not (before[0] in "BIM" and before[2:] == tag[2:]):
            return False
        if closing and before[0] in "BIM" and not inside:
            return False
    return True


CLOSED: tuple[str, ...] = ()


@pytest.mark.parametrize("tags", [IOB2, IOBES, BILOU, BMES], ids=["IOB2", "IOBES", "BILOU", "BMES"])
@pytest.mark.parametrize("words", [1, 2, 4])
def test_the_likeliest_valid_row_is_the_best_of_all_valid_rows(
    tags: tuple[str, ...], words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.CLOSED", tags)
    draw = np.random.default_rng(words)
    for _ in range(20):
        logits = draw.normal(size=(words, len(tags))).astype(np.float32)
        rows = [row for row in product(range(len(tags)), repeat=words) if valid(tuple(tags[i] for i in row))]
        best = max(rows, key=lambda row: float(logits[range(words), row].sum()))
        assert tuple(likeliest(logits, scheme_of(tags))) == best


@pytest.mark.parametrize("tags", [IO, WORDS], ids=["IO", "parts of speech"])
def test_where_anything_may_follow_each_word_has_its_likeliest_tag(tags: tuple[str, ...]) -> None:
    logits = np.random.default_rng(0).normal(size=(50, len(tags)))
    assert (likeliest(logits, scheme_of(tags)) == logits.argmax(-1)).all()


def test_an_entity_is_not_broken_by_one_word_that_leans_to_another_type() -> None:
    logits = np.array([[0, 5, 0, 4, 0], [0, 0, 2, 0, 2.5], [0, 0, 3, 0, 1]], np.float32)
    assert [IOB2[i] for i in logits.argmax(-1)] == ["B-PER", "I-ORG", "I-PER"]
    assert [IOB2[i] for i in likeliest(logits, scheme_of(IOB2))] == ["B-PER", "I-PER", "I-PER"]


def test_a_row_of_no_words_has_no_tags() -> None:
    assert likeliest(np.empty((0, 5)), scheme_of(IOB2)).tolist() == []


def test_where_no_row_is_valid_one_with_the_fewest_breaches_is_told() -> None:
    tags = ("B-PER", "E-PER")
    assert likeliest(np.array([[1.0, 0.0]]), scheme_of(tags)).tolist() == [0]


def test_iob1_becomes_iob2_and_iob2_stays() -> None:
    def spelled(*rows: list[str]) -> list[str]:
        ids = np.array([IOB2.index(tag) for row in rows for tag in row])
        first = np.array([place == 0 for row in rows for place in range(len(row))])
        return [IOB2[i] for i in respelled(ids, first, scheme_of(IOB2))]

    iob1 = (["I-PER", "I-PER", "B-PER", "I-ORG"], ["I-ORG", "O", "I-PER"])
    assert spelled(*iob1) == ["B-PER", "I-PER", "B-PER", "B-ORG", "B-ORG", "O", "B-PER"]
    iob2 = ["B-PER", "I-PER", "B-PER", "B-ORG", "I-ORG"]
    assert spelled(iob2) == iob2
    assert spelled() == []


def test_tags_that_may_begin_anywhere_are_left_as_they_are() -> None:
    ids = np.array([1, 2, 0, 1])
    assert (respelled(ids, np.array([True, False, False, False]), scheme_of(IO)) == ids).all()
