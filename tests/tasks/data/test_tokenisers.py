"""Tokenizers that are the same everywhere, and a library that may break without ending the process."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from tasks import problems
from tasks.data import tokenisers
from tasks.encoding import Encoder, guarded
from tasks.errors import BadInput
from tasks.recipe import TrainedTokenizer
from tests import makers

ROOT = Path(__file__).parents[3]
KINDS = ("bpe", "wordpiece", "unigram", "byte-bpe")
CORPUS = [each["text"] for each in makers.messages(400)] + ["我想退回这件商品，谢谢", "这件商品很好 谢谢"] * 20
SCRIPT = """
import hashlib
from tasks.data import tokenisers
from tasks.recipe import TrainedTokenizer
from tests.tasks.data.test_tokenisers import CORPUS, KINDS
for kind in KINDS:
    trained = tokenisers.train(TrainedTokenizer(train=kind, vocabulary=300), lambda: CORPUS)
    print(hashlib.sha256(trained.to_str().encode()).hexdigest())
"""


def trained(kind: str, vocabulary: int = 300, lowercase: bool = True) -> Tokenizer:
    how = TrainedTokenizer.model_validate({"train": kind, "vocabulary": vocabulary, "lowercase": lowercase})
    return tokenisers.train(how, lambda: CORPUS)


def test_the_same_texts_give_the_same_tokenizer_in_every_process() -> None:
    runs = [
        subprocess.Popen([sys.executable, "-c", SCRIPT], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    first, second = (run.communicate()[0].split() for run in runs)
    here = [hashlib.sha256(trained(kind).to_str().encode()).hexdigest() for kind in KINDS]
    assert first == second == here
    assert len(set(here)) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
class TestTrained:
    def test_it_keeps_to_its_vocabulary_and_knows_the_special_tokens(self, kind: str) -> None:
        tokenizer = trained(kind, vocabulary=270)
        assert tokenizer.get_vocab_size() <= 270
        assert [tokenizer.id_to_token(number) for number in range(5)] == list(tokenisers.SPECIAL.values())

    def test_it_reads_its_own_corpus_without_an_unknown_token(self, kind: str) -> None:
        tokenizer = trained(kind)
        for text in CORPUS:
            encoding = tokenizer.encode(text)
            assert "[UNK]" not in encoding.tokens
            assert (encoding.tokens[0], encoding.tokens[-1]) == ("[CLS]", "[SEP]")

    def test_frequent_chinese_words_are_tokens_of_their_own(self, kind: str) -> None:
        vocabulary = 1000 if kind == "byte-bpe" else 300  # which has to begin with all bytes
        tokens = trained(kind, vocabulary).encode("我想退回这件商品，谢谢", add_special_tokens=False).tokens
        assert len(tokens) < len("我想退回这件商品，谢谢")

    def test_case_is_kept_only_where_it_is_asked_for(self, kind: str) -> None:
        assert trained(kind).encode("INVOICE").ids == trained(kind).encode("invoice").ids
        kept = trained(kind, lowercase=False)
        assert kept.encode("INVOICE").ids != kept.encode("invoice").ids

    def test_transformers_reads_it_and_finds_the_same_tokens(self, kind: str, tmp_path: Path) -> None:
        from transformers import AutoTokenizer

        tokenizer = trained(kind)
        tokenisers.write(tokenizer, tmp_path, tokenisers.config_of_trained(16))
        theirs = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
        for text in CORPUS[::40]:
            assert theirs(text)["input_ids"] == tokenizer.encode(text).ids
        assert (theirs.pad_token, theirs.model_max_length) == ("[PAD]", 16)


def encoder(tokenizer: Tokenizer, length: int) -> Encoder:
    """The tokenizer as a problem of tagged words uses it."""
    return tokenisers.encoder(tokenizer, length, problems.named("token-classification"))


def test_rows_are_cut_at_the_limit_and_never_padded() -> None:
    encoded = encoder(trained("bpe"), 6).texts(["my order", " ".join(makers.FILLING)])
    short, long = encoded.lengths
    assert short < 6 == long
    assert encoded.tokens[-1] == list(tokenisers.SPECIAL.values()).index("[SEP]")
    assert encoded.truncated.tolist() == [False, True]


def test_a_word_of_a_byte_level_tokenizer_is_encoded_as_inside_a_sentence() -> None:
    alphabet = {letter: n for n, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges = [("Ġ", "o"), ("Ġo", "k")]
    model = models.BPE({**alphabet, "Ġo": 256, "Ġok": 257}, merges)
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    encoded = encoder(tokenizer, 8).words(pa.array([["ok", "ok"]]))
    assert encoded.tokens.tolist() == [257, 257]
    assert encoded.origin.tolist() == [0, 1]


def test_a_word_longer_than_a_row_comes_whole() -> None:
    tokenizer = trained("bpe")
    found, short = encoder(tokenizer, 4).pieces(["gardenrosestools" * 3, "order"])
    assert tokenizer.decode(found).replace(" ", "") == "gardenrosestools" * 3
    assert len(found) > 4 >= len(short)


@pytest.mark.parametrize(
    ("single", "before", "after"),
    [("$A", [], []), ("[CLS] $A [SEP]", [2], [3]), ("[CLS] [CLS] $A", [2, 2], []), ("$A [SEP]", [], [3])],
)
def test_special_tokens_around_a_row_are_found(single: str, before: list[int], after: list[int]) -> None:
    tokenizer = trained("bpe")
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    assert encoder(tokenizer, 4).ends == (before, after)


def explosive() -> Tokenizer:
    """A tokenizer whose regular expression takes exponential time on some texts."""
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("(a+)+$"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A", special_tokens=[])
    return tokenizer


@pytest.mark.parametrize(
    "encode",
    [
        lambda tokenizer, row: encoder(tokenizer, 8).texts(row),
        lambda tokenizer, row: encoder(tokenizer, 8).words(pa.array([row])),
        lambda tokenizer, row: encoder(tokenizer, 8).pieces(row),
    ],
)
def test_a_panic_while_encoding_is_an_answer_with_a_code(encode: Callable[[Tokenizer, list[str]], object]) -> None:
    with pytest.raises(BadInput, match="retry-limit") as caught:
        encode(explosive(), ["fine", "a" * 30 + "b"])
    assert caught.value.code == "E-TOK-PANIC"


def test_special_tokens_that_fill_a_row_are_refused() -> None:
    with pytest.raises(BadInput, match="E-TOK-PANIC"):
        _ = encoder(trained("bpe"), 2).ends


def test_a_panic_while_reading_is_an_answer_with_a_code(tmp_path: Path) -> None:
    described = json.loads(Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")])).to_str())
    described["model"] |= {"continuing_subword_prefix": "####", "merges": [["a", "b"]]}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described))
    with pytest.raises(BadInput) as caught:
        tokenisers.read(tmp_path)
    assert caught.value.code == "E-TOK-LOAD"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model": {"type": "Spell"}}', b"\xff\xfe"])
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(BadInput, match="E-TOK-LOAD"):
        tokenisers.read(tmp_path)


def test_an_interrupt_is_not_taken_for_a_panic() -> None:
    with pytest.raises(KeyboardInterrupt), guarded("E-TOK-PANIC", "encoding"):
        raise KeyboardInterrupt
