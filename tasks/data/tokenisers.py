"""Tokenizers: read from files or trained on a corpus, always as Hugging Face's `tokenizers.Tokenizer`.

Used without transformers: its import costs 3 s and its call 2-3 times the encoding itself (17,000 rows/s against 30,000
with `encode_batch_fast`, one thread). A panic of the Rust library is no `Exception`; it is caught here and nowhere
else.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tasks.encoding import Encoder, guarded
from tasks.problems import Problem
from tasks.recipe import TrainedTokenizer

SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}


def read(folder: Path) -> Tokenizer:
    """The tokenizer in `folder/tokenizer.json`.

    Raises:
        BadInput: E-TOK-LOAD, the file is not a tokenizer, or breaks the library.
    """
    with guarded("E-TOK-LOAD", f"{folder.name}/tokenizer.json"):
        return Tokenizer.from_file(str(folder / "tokenizer.json"))


def padding(folder: Path) -> int:
    """The id that rows are padded with; 0 where the tokenizer names none."""
    ids = read(folder).get_vocab()
    return next((ids[name] for name in (SPECIAL["pad"], "<pad>") if name in ids), 0)


def limited(tokenizer: Tokenizer, length: int, words: bool) -> Tokenizer:
    """`tokenizer` set to cut rows at `length` tokens and never to pad; for `words`, to take rows already split."""
    tokenizer.no_padding()
    tokenizer.enable_truncation(length)
    if words:
        _lead_with_space(tokenizer)
    return tokenizer


def _lead_with_space(tokenizer: Tokenizer) -> None:
    # a byte-level tokenizer tells a word's beginning by the space before it, which a list of words does not have
    described = json.loads(tokenizer.to_str())["pre_tokenizer"] or {}
    if described.get("type") == "ByteLevel" and not described.get("add_prefix_space"):
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=described["use_regex"])


def encoder(tokenizer: Tokenizer, length: int, problem: Problem, config: Mapping[str, Any] | None = None) -> Encoder:
    """`tokenizer` as this problem uses it, for a model of this config, where it is known."""
    config = config or {}
    ends = config.get("eos_token_id")
    end, start = ends[0] if isinstance(ends, list) else ends, config.get("decoder_start_token_id")
    return Encoder(limited(tokenizer, length, "words" in problem.inputs.values()), length, end, start)


def train(how: TrainedTokenizer, texts: Callable[[], Iterable[str]]) -> Tokenizer:
    """A tokenizer trained on `texts`; the same texts give the same tokenizer, byte for byte.

    Words are found by white space and punctuation, so that a language written without spaces gets its frequent
    sequences of characters as tokens. The library's own WordPiece and unigram trainers give another file every time
    (they walk hash maps seeded at random); BPE does not. So word pieces are counted on a BPE segmentation, and the
    scores of a unigram model are settled. `byte-bpe` is BPE over bytes (Radford et al. 2019, section 2.2), blanks
    included: no character is unknown, and what is written in its tokens can be read back.
    """
    with guarded("E-TOK-TRAIN", f"training of {how.train}"):
        tokenizer = _trained(how, texts())
        if how.train == "wordpiece":
            tokenizer.model = _word_pieces(tokenizer, how.vocabulary, texts())
            tokenizer.decoder = decoders.WordPiece()
            tokenizer.add_special_tokens(list(SPECIAL.values()))
        elif how.train == "unigram":
            tokenizer.model = _settled(tokenizer)
    first, last = (tokenizer.token_to_id(SPECIAL[name]) for name in ("cls", "sep"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", first), ("[SEP]", last)],
    )
    return tokenizer


def _trained(how: TrainedTokenizer, texts: Iterable[str]) -> Tokenizer:
    special = list(SPECIAL.values())
    trainer: trainers.Trainer
    if how.train == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=how.vocabulary, special_tokens=special, unk_token=SPECIAL["unk"], show_progress=False
        )
    else:
        tokenizer = Tokenizer(models.BPE(unk_token=SPECIAL["unk"]))
        known = pre_tokenizers.ByteLevel.alphabet() if how.train == "byte-bpe" else []
        trainer = trainers.BpeTrainer(
            vocab_size=how.vocabulary,
            special_tokens=special,
            initial_alphabet=known,
            min_frequency=2,
            show_progress=False,
        )
    if how.train == "byte-bpe":
        lower = [normalizers.Lowercase()] if how.lowercase else []
        tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), *lower])
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        tokenizer.train_from_iterator(texts, trainer=trainer)
        return tokenizer
    cleaning = normalizers.BertNormalizer(handle_chinese_chars=False, strip_accents=False, lowercase=how.lowercase)
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), cleaning])
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.train_from_iterator(texts, trainer=trainer)
    return tokenizer


def _word_pieces(bpe: Tokenizer, size: int, texts: Iterable[str]) -> models.WordPiece:
    counts: Counter[str] = Counter()
    for text in texts:
        encoding = bpe.encode(text, add_special_tokens=False)
        words = [None, *encoding.word_ids]
        counts.update(
            token if word != before else f"##{token}"
            for token, word, before in zip(encoding.tokens, encoding.word_ids, words, strict=False)
        )
    ranked = sorted(counts, key=lambda piece: (-counts[piece], piece))
    pieces = dict.fromkeys([*SPECIAL.values(), *ranked])
    vocabulary = {piece: number for number, piece in enumerate(list(pieces)[:size])}
    return models.WordPiece(vocabulary, unk_token=SPECIAL["unk"])


def _settled(unigram: Tokenizer) -> models.Unigram:
    # characters that pruning had dropped come back with scores in steps of 0.0001, in an order drawn at random
    vocabulary = json.loads(unigram.to_str())["model"]["vocab"]
    special, pieces = vocabulary[: len(SPECIAL)], sorted(vocabulary[len(SPECIAL) :], key=lambda piece: piece[1])
    tail = 0
    while tail + 1 < len(pieces) and pieces[tail + 1][1] - pieces[tail][1] < 1.01e-4:
        tail += 1
    settled = {piece: round(max(score, pieces[tail][1]), 6) for piece, score in pieces}
    ranked = sorted(settled.items(), key=lambda each: (-each[1], each[0]))
    return models.Unigram([*map(tuple, special), *ranked], unk_id=list(SPECIAL).index("unk"))


def write(tokenizer: Tokenizer, folder: Path, config: dict[str, object] | None = None) -> None:
    """`tokenizer.json`, and with a `config` also `tokenizer_config.json`, as transformers reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))


def config_of_trained(length: int) -> dict[str, object]:
    """`tokenizer_config.json` of a tokenizer that `train` made."""
    names = {f"{name}_token": token for name, token in SPECIAL.items()}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": length, **names}
