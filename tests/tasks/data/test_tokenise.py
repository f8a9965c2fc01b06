"""From checked rows to token ids and label ids: nothing lost, labels where they belong, limits kept."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from tokenizers import Encoding, Tokenizer, models, pre_tokenizers, processors

from tasks import problems, recipe, stages
from tasks.data import shards, tokenisers
from tasks.data.shards import encode_split
from tasks.data.tokenise import tokenise
from tasks.errors import BadInput
from tasks.records import Checked, Checkpoint
from tests import makers
from tests.tasks.test_problems import rows_of

TEXT: recipe.Task = "text-classification"
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "hug", "##ging", "##s", "face", "in", "os", "##lo"]
IDS = {"O": 0, "B-LOC": 1, "I-LOC": 2}
NONE = shards.IGNORED
STRINGS = pa.list_(pa.string())
ROOT = Path(__file__).parents[3]


@pytest.fixture
def pieces() -> Tokenizer:
    """Word pieces with known ids: their places in PIECES."""
    tokenizer = Tokenizer(models.WordPiece({each: n for n, each in enumerate(PIECES)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    ends = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    return tokenizer


def encoded(folder: Path, rows: dict[str, list[Any]] | pa.Table, tokenizer: Tokenizer, length: int, words: bool) -> Any:
    """The shard and the count of a split with these rows."""
    pq.write_table(pa.table(rows), folder / "split.parquet")
    problem = problems.named("token-classification" if words else "text-classification")
    encoder = tokenisers.encoder(tokenizer, length, problem)
    count = encode_split(folder / "split.parquet", folder / "split", encoder, {**IDS, "a": 0, "b": 1}, problem)
    return shards.read(folder / "split"), count


def test_a_tag_stands_at_the_first_piece_of_its_word_and_nowhere_else(tmp_path: Path, pieces: Tokenizer) -> None:
    rows = {"tokens": [["hugging", "in", "oslo"], ["hugs"]], "tags": [["O", "O", "B-LOC"], ["I-LOC"]]}
    shard, count = encoded(tmp_path, rows, pieces, 16, words=True)
    tokens, labels = shard.row(0)
    assert [PIECES[token] for token in tokens] == ["[CLS]", "hug", "##ging", "in", "os", "##lo", "[SEP]"]
    assert labels.tolist() == [NONE, 0, NONE, 0, 1, NONE, NONE]
    assert shard.row(1)[1].tolist() == [NONE, 1, NONE, NONE], "an entity of IOB1 that opens with I opens with B"
    assert (count.tokens, count.truncated) == (7 + 4, 0)


def test_a_word_that_was_cut_off_leaves_no_label(tmp_path: Path, pieces: Tokenizer) -> None:
    rows = {"tokens": [["in", "hugging", "oslo"]], "tags": [["O", "O", "B-LOC"]]}
    shard, count = encoded(tmp_path, rows, pieces, 5, words=True)
    assert [PIECES[token] for token in shard.tokens] == ["[CLS]", "in", "hug", "##ging", "[SEP]"]
    assert shard.labels.tolist() == [NONE, 0, 0, NONE, NONE]
    assert count.truncated == 1


def test_the_same_word_twice_has_two_labels(tmp_path: Path, pieces: Tokenizer) -> None:
    shard, _ = encoded(tmp_path, {"tokens": [["oslo", "oslo"]], "tags": [["B-LOC", "I-LOC"]]}, pieces, 16, words=True)
    assert shard.labels.tolist() == [NONE, 1, NONE, 2, NONE, NONE]


def opened(tags: list[str]) -> list[str]:
    """A row of tags where an entity opens with its B."""
    pairs = zip(["O", *tags], tags, strict=False)
    return [f"B{tag[1:]}" if tag[0] == "I" and before[1:] != tag[1:] else tag for before, tag in pairs]


def aligned(encoding: Encoding, tags: list[str]) -> list[int]:
    """A label id for each token of a row that the library itself encoded."""
    before = [None, *encoding.word_ids]
    pairs = zip(encoding.word_ids, before, strict=False)
    return [IDS[tags[word]] if word is not None and word != last else NONE for word, last in pairs]


def byte_level(post_processor: processors.PostProcessor) -> Tokenizer:
    """A byte for a token, so that a word may be longer than a row."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<s>": 0, "</s>": 1, **{each: n for n, each in enumerate(alphabet, 2)}}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = post_processor
    return tokenizer


def trained(kind: str) -> Tokenizer:
    how = recipe.TrainedTokenizer.model_validate({"train": kind, "vocabulary": 250})
    return tokenisers.train(how, lambda: (each["text"] for each in makers.messages(100)))


TOKENIZERS = {
    "bpe": lambda: trained("bpe"),
    "word pieces": lambda: trained("wordpiece"),
    "unigram": lambda: trained("unigram"),
    "bytes between ends": lambda: byte_level(processors.RobertaProcessing(("</s>", 1), ("<s>", 0))),
    "bytes without ends": lambda: byte_level(processors.ByteLevel()),
}
WORD = st.sampled_from(["order", "Invoice", "refund.", "x" * 40, "退回", "\u200b", "[SEP]", "a b", "ﬁ"]) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=6
)
SENTENCES = st.lists(st.lists(st.tuples(WORD, st.sampled_from(list(IDS))), max_size=8), min_size=1, max_size=12)


@pytest.mark.parametrize("kind", TOKENIZERS)
@examples(max_examples=40, deadline=None)
@given(sentences=SENTENCES, length=st.integers(4, 40), batch=st.integers(1, 12))
def test_words_encoded_once_give_the_rows_that_the_library_gives(
    kind: str, sentences: list[list[tuple[str, str]]], length: int, batch: int
) -> None:
    rows = [*([word for word, _ in each] for each in sentences), ["order"]]
    tags = [*([tag for _, tag in each] for each in sentences), ["O"]]
    tokenizer = TOKENIZERS[kind]()
    table = pa.table({"tokens": pa.array(rows, STRINGS), "tags": pa.array(tags, STRINGS)})
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.data.examples.BATCH", batch)
        shard, count = encoded(Path(folder), table, tokenizer, length, words=True)
        found = [[each.tolist() for each in shard.row(place)] for place in range(len(shard))]
    theirs = tokenizer.encode_batch(rows, is_pretokenized=True)
    assert found == [[each.ids, aligned(each, opened(row))] for each, row in zip(theirs, tags, strict=True)]
    assert count.truncated == sum(bool(each.overflowing) for each in theirs)


PEAK = """
import re, sys
from pathlib import Path
from tasks import problems
from tasks.data import tokenisers
from tasks.data.shards import encode_split
folder, problem, labels = Path(sys.argv[1]), problems.named(sys.argv[2]), sys.argv[3:]
encoder = tokenisers.encoder(tokenisers.read(folder), 128, problem)
for table in (folder / "2.parquet", folder / "10.parquet"):
    encode_split(table, table.with_suffix(""), encoder, {label: n for n, label in enumerate(labels)}, problem)
    print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(
    ("make", "task", "labels"),
    [
        (makers.messages, "text-classification", list(makers.SUBJECTS)),
        (makers.sentences, "token-classification", ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]),
    ],
)
def test_five_times_the_rows_take_no_more_memory(
    tmp_path: Path, make: Callable[[int], list[Any]], task: str, labels: list[str]
) -> None:
    tokenisers.write(trained("wordpiece"), tmp_path)
    rows = pa.Table.from_pylist(make(4096)).select(list(problems.named(task).roles))
    for times in (2, 10):
        with pq.ParquetWriter(tmp_path / f"{times}.parquet", rows.schema) as writer:
            for _ in range(times):
                writer.write_table(rows)
    asked = [sys.executable, "-c", PEAK, str(tmp_path), task, *labels]
    done = subprocess.run(asked, cwd=ROOT, check=True, capture_output=True, text=True)
    first, second = map(int, done.stdout.split())
    assert second - first < 12_000, "KiB; held as a whole, the further rows take 31,000 (words) or 75,000 (texts)"


def test_texts_are_cut_at_the_length_and_the_cut_ones_are_counted(tmp_path: Path, pieces: Tokenizer) -> None:
    rows = {"text": ["hug face", "in in in in in", "hugging"], "label": ["a", "b", "a"]}
    shard, count = encoded(tmp_path, rows, pieces, 4, words=False)
    assert shard.lengths.tolist() == [4, 4, 4]
    assert shard.row(1)[0].tolist() == [2, 8, 8, 3]
    assert shard.labels.tolist() == [0, 1, 0]
    assert count.truncated == 1


def test_every_row_of_every_split_is_there_in_its_order(texts: makers.Made, tmp_path: Path) -> None:
    folder = texts.folder(texts.shards, tmp_path)
    tokenizer = tokenisers.read(folder / "tokenizer")
    for split, rows in texts.checked.rows.items():
        table = pq.read_table(stages.open_file(texts.checked.files[f"{split}.parquet"]))
        shard = shards.read(folder / split)
        assert len(shard) == rows == texts.shards.rows[split]
        assert len(shard.tokens) == texts.shards.tokens[split]
        assert [texts.checked.labels[number] for number in shard.labels] == table["label"].to_pylist()
        decoded = [tokenizer.decode(shard.row(place)[0].tolist()) for place in range(rows)]
        whole = [text for text, found in zip(table["text"].to_pylist(), decoded, strict=True) if text == found]
        assert len(whole) == rows - round(texts.shards.truncated[split] * rows)


@pytest.mark.parametrize("task", [task for task in problems.names() if problems.named(task).labelled])
def test_labels_are_read_back_from_their_numbers(task: recipe.Task, tmp_path: Path) -> None:
    problem, rows = problems.named(task), labelled(task)
    (answer,) = problem.answers
    told = [row[answer] if isinstance(row[answer], list) else [row[answer]] for row in rows]
    labels = tuple(sorted({label for each in told for label in each}, reverse=True))
    pq.write_table(pa.table(problem.columns(rows, answered=True)), tmp_path / "split.parquet")
    encoder = tokenisers.encoder(trained("wordpiece"), 128, problem)
    numbers = {label: number for number, label in enumerate(labels)}
    encode_split(tmp_path / "split.parquet", tmp_path / "split", encoder, numbers, problem)
    shard = shards.read(tmp_path / "split")
    found = problem.decoded(shard.labels, shard, labels)
    assert len(labels) > 2
    if task == "multi-label-classification":  # sets, told in the order of their numbers
        assert [set(each) for each in found] == [set(each) for each in told]
        assert all([numbers[label] for label in each] == sorted(numbers[label] for label in each) for each in found)
    else:
        assert list(found) == [row[answer] for row in rows]


def labelled(task: recipe.Task) -> list[dict[str, Any]]:
    if task == "text-classification":
        return list(makers.messages(60))
    return list(makers.sentences(60)) if task == "token-classification" else rows_of(task, 60)


def test_the_length_is_what_cuts(texts: makers.Made) -> None:
    lengths = {}
    for length in (8, 64):
        tokens = texts.recipe.tokens.model_copy(update={"length": length})
        lengths[length] = tokenise.fn(texts.checked, texts.base, TEXT, tokens)
    assert lengths[8].truncated["train"] > 0.5
    assert lengths[64].truncated == {"train": 0.0, "validation": 0.0, "test": 0.0}
    assert lengths[8].tokens["train"] <= 8 * texts.checked.rows["train"] < lengths[64].tokens["train"]


def test_a_learning_rate_does_not_tokenise_again(texts: makers.Made) -> None:
    faster = texts.recipe.train.model_copy(update={"learning_rate": 1e-4})
    again = tokenise.fn(texts.checked, texts.base, TEXT, texts.recipe.tokens)
    assert again == texts.shards
    key = stages.finetune(texts.base, again, TEXT, texts.recipe.train)
    assert stages.find(key) == texts.trained
    assert stages.find(stages.finetune(texts.base, again, TEXT, faster)) is None


@pytest.fixture
def pretrained(texts: makers.Made) -> Checkpoint:
    """The trained model, as a base with a tokenizer of its own."""
    return texts.trained


def test_a_base_keeps_its_own_tokenizer(texts: makers.Made, pretrained: Checkpoint) -> None:
    found = tokenise.fn(texts.checked, pretrained, TEXT, recipe.Tokens(length=24))
    assert found.vocabulary == texts.shards.vocabulary
    assert {name: found.files[name] for name in found.files if name.endswith(".bin")} == {
        name: texts.shards.files[name] for name in texts.shards.files if name.endswith(".bin")
    }


@pytest.mark.parametrize(
    ("base", "tokens", "code"),
    [
        ({"tokenizer": None}, recipe.Tokens(length=8), "E-TOK-NONE"),
        ({"length": 32}, recipe.Tokens(length=33), "E-TOK-LENGTH"),
        ({}, recipe.Tokens(tokenizer=recipe.TrainedTokenizer(train="bpe")), "E-TOK-MISMATCH"),
    ],
)
def test_a_tokenizer_that_does_not_fit_the_base_is_refused(
    texts: makers.Made, pretrained: Checkpoint, base: dict[str, Any], tokens: recipe.Tokens, code: str
) -> None:
    checked: Checked = texts.checked
    with pytest.raises(BadInput) as caught:
        tokenise.fn(checked, pretrained.model_copy(update=base), TEXT, tokens)
    assert caught.value.code == code
