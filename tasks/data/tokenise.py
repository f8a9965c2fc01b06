"""Checked rows -> Shards: the base model's own tokenizer, or one trained on the training rows, over every split."""

import json
import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from tasks import fits, problems, recipe, stages
from tasks.data import examples, shards, tokenisers
from tasks.data.corruption import Corruption
from tasks.encoding import Encoder
from tasks.errors import BadInput
from tasks.problems import Problem
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
        BadInput: E-MODEL-TASK, E-TOK-NONE, -LENGTH, -MISMATCH, -LOAD, -TRAIN, -MASK or -PANIC.
    """
    problem = problems.named(task)
    config = json.loads(stages.open_file(base.files["config.json"]).read_bytes())
    fits.require(problem, task, config)
    tables = {split: stages.open_file(checked.files[f"{split}.parquet"]) for split in checked.rows}
    encoder = settle_tokenizer(folder / "tokenizer", base, tokens, tables["train"], problem, config)
    if problem.corrupted:
        Corruption.by(encoder.tokenizer, seed=0)
    label_ids = {label: number for number, label in enumerate(checked.labels)}
    counts = {
        split: shards.encode_split(table, folder / split, encoder, label_ids, problem)
        for split, table in tables.items()
    }
    truncated = {split: count.truncated / checked.rows[split] for split, count in counts.items()}
    log.info("%d tokens, %.1f %% of the training rows cut", counts["train"].tokens, 100 * truncated["train"])
    return Shards.of(
        stages.keep(folder),
        parents=(checked.digest, base.digest),
        rows=checked.rows,
        tokens={split: count.tokens for split, count in counts.items()},
        truncated=truncated,
        vocabulary=encoder.tokenizer.get_vocab_size(),
        labels=checked.labels,
        length=tokens.length,
    )


def settle_tokenizer(
    folder: Path, base: Checkpoint, tokens: recipe.Tokens, train: Path, problem: Problem, config: Mapping[str, Any]
) -> Encoder:
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
        tokenizer = tokenisers.train(tokens.tokenizer, lambda: examples.texts(train, problem))
        tokenisers.write(tokenizer, folder, tokenisers.config_of_trained(tokens.length))
    encoder = tokenisers.encoder(tokenizer, tokens.length, problem, config if tokens.tokenizer == "base" else {})
    encoder.tokenizer.save(str(folder / "tokenizer.json"))
    return encoder


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
