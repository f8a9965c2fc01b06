"""A long text comes in windows that are the library's own, each token with its characters, and the question is kept."""

import unicodedata
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tasks import recipe
from tasks.data import tokenisers
from tasks.encoding import OVERLAP, Encoded, Encoder
from tasks.errors import BadInput
from tests.tasks.data.test_tokenise import TOKENIZERS, WORD

TEXT = st.lists(WORD, max_size=30).map(" ".join)
LONG = "Yuán Cháo (元朝) was founde\u0301 by Kublai; the ﬁrst Ｋhan of all 中国 ½ lived in Xanadu. " * 3


def encoder(tokenizer: Tokenizer, length: int) -> Encoder:
    return Encoder(tokenisers.limited(tokenizer, length, words=False), length)


def letters(strip_accents: bool = True) -> Tokenizer:
    """A token for each letter, in lower case and without accents, as BERT's are."""
    known = dict.fromkeys(["[UNK]", "[CLS]", "[SEP]", *map(chr, range(33, 127)), *"元朝中国⁄áé"])
    pieces = [*known, *(f"##{each}" for each in known)]
    tokenizer = Tokenizer(models.WordPiece({each: n for n, each in enumerate(pieces)}, unk_token="[UNK]"))
    cleaning = normalizers.BertNormalizer(strip_accents=strip_accents, lowercase=True)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), cleaning])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def texts_of(encoded: Encoded) -> list[list[int]]:
    """The token ids of the context in each window."""
    assert encoded.origin is not None
    return [encoded.tokens[at][encoded.origin[at][:, 0] >= 0].tolist() for at in encoded.spans()]


def settled(places: Iterable[Iterable[int]]) -> list[tuple[int, int]]:
    """Where tokens begin and end; of a space that has no characters left, the library says the one or the other."""
    return [(begin, end) if begin < end or begin < 0 else (0, 0) for begin, end in places]


@pytest.mark.parametrize("kind", TOKENIZERS)
@examples(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=6), length=st.integers(6, 40))
def test_windows_are_those_that_the_library_cuts(kind: str, rows: list[tuple[str, str]], length: int) -> None:
    ours = encoder(TOKENIZERS[kind](), length)
    before = ours.tokenizer.to_str()
    room = length - ours.tokenizer.num_special_tokens_to_add(is_pair=True)
    rows = [row for row in rows if len(ours.pieces([row[0]])[0]) <= room // 2] or [("", "order")]
    found = ours.windows(*zip(*rows, strict=True))
    assert ours.tokenizer.to_str() == before

    expected = []
    for number, row in enumerate(rows):
        shared = (room - len(ours.pieces([row[0]])[0])) // OVERLAP
        ours.tokenizer.enable_truncation(length, stride=shared, strategy="only_second")
        whole = ours.tokenizer.encode(*row)
        for each in (whole, *whole.overflowing):
            places = [ends if of == 1 else (-1, -1) for ends, of in zip(each.offsets, each.sequence_ids, strict=True)]
            expected.append((number, each.ids, each.type_ids, settled(places)))
    assert found.origin is not None
    assert found.rows is not None
    types = np.zeros_like(found.tokens) if found.types is None else found.types
    assert not found.truncated.any()
    assert [
        (row, found.tokens[at].tolist(), types[at].tolist(), settled(found.origin[at].tolist()))
        for row, at in zip(found.rows.tolist(), found.spans(), strict=True)
    ] == expected


@pytest.mark.parametrize("strip_accents", [True, False])
def test_the_characters_of_a_token_are_those_that_it_was_made_of(strip_accents: bool) -> None:
    ours = encoder(letters(strip_accents), 30)
    found = ours.windows(["who?"], [LONG])
    assert found.origin is not None
    assert len(found.lengths) > 5
    for token, (begin, end) in zip(found.tokens, found.origin.tolist(), strict=True):
        if begin >= 0:
            marks = "\u0301" * LONG[end:].startswith("\u0301")  # where it is composed, the library forgets the accent
            made = unicodedata.normalize("NFKC", LONG[begin:end] + marks).lower()
            bare = "".join(each for each in unicodedata.normalize("NFD", made) if unicodedata.category(each) != "Mn")
            assert ours.tokenizer.id_to_token(token).removeprefix("##") in (bare if strip_accents else made)
    assert {LONG[begin:end] for begin, end in found.origin.tolist() if begin >= 0} >= {"元", "国", "ﬁ", "Ｋ", "á"}


def test_every_part_of_a_text_that_is_shorter_than_the_overlap_is_whole_in_some_window() -> None:
    ours = encoder(letters(), 33)
    found = ours.windows(["who"], [LONG])  # 27 tokens of the context in each, 9 of them in the next, too
    whole = ours.pieces([LONG])[0]
    windows = texts_of(found)
    assert max(map(len, windows)) == 27
    for begin in range(len(whole) - 9):
        part = whole[begin : begin + 9]
        assert any(part == window[at : at + 9] for window in windows for at in range(len(window)))
    assert found.rows is not None
    assert set(found.rows.tolist()) == {0}


def test_a_question_that_is_longer_than_half_is_cut_and_said_to_be_where_the_text_wants_the_room() -> None:
    ours = encoder(letters(), 23)
    found = ours.windows(["a" * 15, "a" * 15, "b" * 10], ["c" * 40, "c" * 5, "d" * 40])
    assert found.truncated.tolist() == [True, False, False]
    windows = texts_of(found)
    asked = (found.lengths - [len(each) for each in windows] - 3).tolist()
    assert found.rows is not None
    assert [set(np.array(asked)[found.rows == row].tolist()) for row in range(3)] == [{10}, {15}, {10}]
    assert max(found.lengths) == 23


def test_a_text_without_a_token_is_one_window() -> None:
    found = encoder(letters(), 12).windows(["who", "who"], [" \u200b ", "me"])
    assert list(map(len, texts_of(found))) == [0, 2]


def test_a_length_that_leaves_no_room_for_two_texts_is_refused() -> None:
    with pytest.raises(BadInput, match="E-TOK-PANIC"):
        encoder(letters(), 4).windows(["who"], ["me"])


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_trained_tokenizers_point_at_whole_words(kind: str) -> None:
    how = recipe.TrainedTokenizer.model_validate({"train": kind, "vocabulary": 200})
    ours = encoder(tokenisers.train(how, lambda: [LONG.lower()] * 3), 200)
    found = ours.windows(["who"], [LONG])
    assert found.origin is not None
    inside = found.origin[found.origin[:, 0] >= 0]
    for word in ("Yuán", "元朝", "ﬁrst", "Ｋhan", "Xanadu"):
        begin, end = LONG.index(word), LONG.index(word) + len(word)
        touched = inside[(inside[:, 0] < end) & (inside[:, 1] > begin)]
        assert LONG[touched[0, 0] : touched[-1, 1]] == word
