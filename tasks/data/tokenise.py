"""Checked rows -> Shards: the base model's own tokenizer, or one trained on the training rows, over every split.

A word's label stands at its first sub-word, as in the reference code of BERT (Devlin et al. 2019, section 5.3); the
other sub-words and special tokens carry none.
"""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Encoding, Tokenizer

from tasks import recipe, stages
from tasks.data import examples, shards, tokenisers
from tasks.errors import BadInput
from tasks.records import Checked, Checkpoint, Shards
from tasks.verb import verb

log = logging.getLogger("vernal.tokenise")


@verb
def tokenise(checked: Checked, base: Checkpoint, task: recipe.Task, tokens: recipe.Tokens) -> Shards:
    """Every split of `checked` as token ids and label ids."""
    key = stages.tokenise(checked, base, task, tokens)
    return stages.once(key, lambda folder: encode_splits(folder, checked, base, task, tokens))


def encode_splits(folder: Path, checked: Checked, base: Checkpoint, task: recipe.Task, tokens: recipe.Tokens) -> Shards:
    """Encodes into `folder` and keeps what is there.

    Raises:
        BadInput: E-TOK-NONE, -LENGTH, -MISMATCH, -LOAD, -TRAIN or -PANIC.
    """
    words = examples.by_words(task)
    tables = {split: stages.open_file(checked.files[f"{split}.parquet"]) for split in checked.rows}
    tokenizer = settle_tokenizer(folder / "tokenizer", base, tokens, tables["train"], words)
    label_ids = {label: number for number, label in enumerate(checked.labels)}
    counts = {
        split: encode_split(table, folder / split, tokenizer, label_ids, words) for split, table in tables.items()
    }
    truncated = {split: count.truncated / checked.rows[split] for split, count in counts.items()}
    log.info("%d tokens, %.1f %% of the training rows cut", counts["train"].tokens, 100 * truncated["train"])
    return Shards.of(
        stages.keep(folder),
        parents=(checked.digest, base.digest),
        rows=checked.rows,
        tokens={split: count.tokens for split, count in counts.items()},
        truncated=truncated,
        vocabulary=tokenizer.get_vocab_size(),
        labels=checked.labels,
        length=tokens.length,
    )


def settle_tokenizer(folder: Path, base: Checkpoint, tokens: recipe.Tokens, train: Path, words: bool) -> Tokenizer:
    """The tokenizer that the recipe asks for, written to `folder` and limited to its length."""
    if tokens.tokenizer == "base":
        tokenizer = own_tokenizer(folder, base, tokens.length)
    elif base.parameters:
        raise BadInput(
            "E-TOK-MISMATCH",
            "tokens.tokenizer asks for a new tokenizer, but the base's embeddings belong to its own; "
            "remove tokens.tokenizer, or start from an architecture",
        )
    else:
        tokenizer = tokenisers.train(tokens.tokenizer, lambda: examples.texts(train, words))
        tokenisers.write(tokenizer, folder, tokenisers.config_of_trained(tokens.length))
    tokenisers.limited(tokenizer, tokens.length, words).save(str(folder / "tokenizer.json"))
    return tokenizer


def own_tokenizer(folder: Path, base: Checkpoint, length: int) -> Tokenizer:
    """The base model's tokenizer, laid out in `folder`."""
    if base.tokenizer is None:
        raise BadInput(
            "E-TOK-NONE",
            f"the base ({base.architecture}) has no tokenizer; add tokens.tokenizer: {{train: bpe, vocabulary: 8000}}",
        )
    if base.length and length > base.length:
        raise BadInput("E-TOK-LENGTH", f"tokens.length {length} > {base.length}, the longest row that the base takes")
    with tempfile.TemporaryDirectory() as there:
        names = {name: file for name, file in base.files.items() if name in stages.TOKENIZER_FILES}
        laid_out = stages.checkout(names, Path(there))
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_bytes((laid_out / name).read_bytes())
    return tokenisers.read(folder)


@dataclass
class Count:
    """What encoding a split came to."""

    tokens: int = 0
    truncated: int = 0


def encode_split(table: Path, folder: Path, tokenizer: Tokenizer, label_ids: dict[str, int], words: bool) -> Count:
    """Writes the shard of one split to `folder`."""
    count = Count()
    with shards.Writer(folder, tokenizer.get_vocab_size(), per_token=words) as writer:
        for rows, labels in examples.batches(table, words):
            encodings = tokenisers.encode(tokenizer, rows, words)
            count.truncated += sum(bool(encoding.overflowing) for encoding in encodings)
            ids = [encoding.ids for encoding in encodings]
            if words:
                pairs = zip(encodings, labels, strict=True)
                writer.add(ids, (each for encoding, tags in pairs for each in aligned(encoding, tags, label_ids)))
            else:
                writer.add(ids, (label_ids[label] for label in labels))
        count.tokens = writer.tokens
    return count


def aligned(encoding: Encoding, tags: Sequence[str], label_ids: dict[str, int]) -> list[int]:
    """A label id for each token: the word's at its first sub-word, IGNORED elsewhere."""
    before = [None, *encoding.word_ids]
    return [
        label_ids[tags[word]] if word is not None and word != last else shards.IGNORED
        for word, last in zip(encoding.word_ids, before, strict=False)
    ]
