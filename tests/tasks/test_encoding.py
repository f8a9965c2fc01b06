"""Texts that are told, gone on from, or written: where their tokens, their ends and their labels stand."""

from itertools import pairwise

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from tasks import problems
from tasks.data import tokenisers
from tasks.encoding import IGNORED, Encoded, Encoder
from tasks.recipe import TrainedTokenizer

WORDS = {name: number for number, name in enumerate(("a", "b", "c", "d", "e", "\n", "end", "start"))}
END, START = WORDS["end"], WORDS["start"]


def plain(length: int, end: int | None = END, start: int | None = None) -> Encoder:
    """A token a letter, and no special tokens of the tokenizer's own, as GPT-2's has none."""
    tokenizer = Tokenizer(models.WordLevel(WORDS, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "removed")
    return Encoder(tokenisers.limited(tokenizer, length, words=False), length, end, start)


def bracketed(length: int) -> Encoder:
    """A tokenizer that we train: [CLS] and [SEP] around a row."""
    how = TrainedTokenizer(train="byte-bpe", vocabulary=300, lowercase=False)
    trained = tokenisers.train(how, lambda: ["to be or not to be", "that is the question"] * 4)
    return tokenisers.encoder(trained, length, problems.named("causal-language-modelling"))


def rows(encoded: Encoded) -> list[list[int]]:
    return [encoded.tokens[at].tolist() for at in encoded.spans()]


class TestBlocks:
    def test_a_long_text_comes_in_blocks_and_none_of_it_is_cut_off(self) -> None:
        encoded = plain(3).blocks(["a b c d e", "b"], whole=False)
        assert rows(encoded) == [[END, 0, 1], [2, 3, 4], [END], [END, 1, END]]
        assert encoded.rows is not None
        assert encoded.rows.tolist() == [0, 0, 0, 1]
        assert not encoded.truncated.any()

    def test_a_whole_block_has_the_special_tokens_of_a_row(self) -> None:
        encoder = bracketed(8)
        (cls,), (sep,) = encoder.ends
        found = rows(encoder.blocks(["to be or not to be that is the question"], whole=True))
        assert len(found) > 1
        assert all(row[0] == cls and row[-1] == sep and len(row) <= 8 for row in found)
        inner = [token for row in found for token in row[1:-1]]
        assert encoder.tokenizer.decode(inner) == "to be or not to be that is the question"

    def test_a_text_without_a_token_is_a_block_without_a_label(self) -> None:
        assert rows(plain(4).blocks([""], whole=True)) == [[]]
        assert rows(bracketed(4).blocks([""], whole=True)) == [[2, 3]]

    def test_the_label_of_a_token_is_the_next_one_across_blocks_and_not_across_texts(self) -> None:
        problem = problems.named("causal-language-modelling")
        columns = problem.columns([{"text": "a b c d e"}, {"text": "b"}], answered=True)
        encoded = problem.encode(columns, plain(3), {})
        assert encoded.labels is not None
        assert encoded.labels.tolist() == [0, 1, 2, 3, 4, END, IGNORED, 1, END, IGNORED]


class TestTurns:
    def test_only_what_is_told_has_labels_and_its_end_is_one(self) -> None:
        encoded = plain(20).in_turns([[("a b", False), ("c d", True)]])
        assert rows(encoded) == [[END, 0, 1, WORDS["\n"], 2, 3, END]]
        assert encoded.labels is not None
        assert encoded.labels.tolist() == [IGNORED, IGNORED, IGNORED, 2, 3, END, IGNORED]

    def test_a_row_that_is_too_long_loses_its_beginning(self) -> None:
        encoded = plain(4).in_turns([[("a b", False), ("c d", True)], [("a", False), ("", True)]])
        assert rows(encoded) == [[WORDS["\n"], 2, 3, END], [END, 0, WORDS["\n"], END]]
        assert encoded.truncated.tolist() == [True, False]

    def test_a_model_goes_on_from_just_what_it_was_given_while_it_learned(self) -> None:
        for encoder in (plain(20), bracketed(64)):
            (learned,) = rows(encoder.in_turns([[("a b", False), ("c d", True)]]))
            (begun,) = rows(encoder.begun([["a b"]], room=4, in_turns=True))
            assert learned[: len(begun)] == begun
            assert learned[len(begun) :] == [*encoder.pieces(["c d"])[0], *encoder.around[1]]

    def test_room_is_left_for_what_is_written(self) -> None:
        encoded = plain(4).begun([["a b c d"], ["a"]], room=2, in_turns=True)
        assert rows(encoded) == [[3, WORDS["\n"]], [0, WORDS["\n"]]]
        assert encoded.truncated.tolist() == [True, True]

    def test_a_text_itself_goes_on_without_an_end(self) -> None:
        for encoder in (plain(20), bracketed(64)):
            (learned,) = rows(encoder.blocks(["a b c d"], whole=False))
            (begun,) = rows(encoder.begun([["a b"]], room=4, in_turns=False))
            assert begun == learned[: len(begun)]
            assert len(begun) == 1 + len(encoder.pieces(["a b"])[0])


class TestTargets:
    @pytest.mark.parametrize(
        ("encoder", "given", "said"),
        [
            (plain(9, start=START), [START, END, 0, 1], [END, 0, 1, END]),  # as BART, which says what begins a row
            (plain(9, start=END), [END, 0, 1], [0, 1, END]),
            (plain(9), [END, 0, 1], [0, 1, END]),
        ],
    )
    def test_a_decoder_says_what_it_is_given_next(self, encoder: Encoder, given: list[int], said: list[int]) -> None:
        target = encoder.written(["a b"])
        assert target.labels is not None
        assert (rows(target), target.labels.tolist()) == ([given], said)

    def test_a_target_that_is_too_long_still_ends(self) -> None:
        target = plain(3).written(["a b c d", "a b"])
        assert target.labels is not None
        assert rows(target) == [[END, 0, 1], [END, 0, 1]]
        assert target.labels.tolist() == [0, 1, END, 0, 1, END]
        assert target.truncated.tolist() == [True, False]

    def test_targets_of_our_own_tokenizer_begin_and_end_with_its_special_tokens(self) -> None:
        encoder = bracketed(20)
        target = encoder.written(["to be", "that is the question"])
        assert target.labels is not None
        for row, (begin, end) in zip(rows(target), pairwise([0, *np.cumsum(target.lengths)]), strict=True):
            assert row == [2, *target.labels[begin : end - 1]]
            assert target.labels[end - 1] == 3


class TestBytes:
    def test_what_is_written_in_bytes_is_read_back_to_the_letter(self) -> None:
        encoder = bracketed(64)
        for text in ("to be,  or\tnot\n\nto be?", "naïve café", "你好，世界 🙂", " lead and trail "):
            assert encoder.tokenizer.decode(encoder.pieces([text])[0]) == text
