"""Bases as others publish them: four families, each with its tokenizer"""

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
import transformers as hf

from tasks import problems, stages
from tasks.data import tokenisers
from tasks.model import architectures
from tasks.model.load import load
from tasks.recipe import Task
from tests.tasks.data.test_tokenisers import trained
from tests.tasks.model import families
from tests.tasks.model.test_load import base

TEXTS = ("my invoice is late", "charged again and again for the roses")
LETTERS = [("▁", -2.0), ("▁my", -3.0), *((letter, -4.0) for letter in string.ascii_lowercase)]


def pieces(*special: str) -> list[tuple[str, float]]:
    """The vocabulary of a SentencePiece model."""
    return [*((name, 0.0) for name in special), *LETTERS]


def word_pieces(folder: Path) -> None:
    """`vocab.txt`, as BERT was published."""
    found = trained("wordpiece").get_vocab()
    (folder / "vocab.txt").write_text("\n".join(sorted(found, key=found.__getitem__)))


def byte_pairs(folder: Path) -> None:
    """`vocab.json` and `merges.txt`, as GPT-2 was."""
    trained("byte-bpe").model.save(str(folder))


class Family(NamedTuple):
    task: Task
    model: Callable[[int], hf.PreTrainedModel]  # of a vocabulary
    head: Any
    tokenizer: Callable[[Path], object]  # what writes it


def sized(sizes: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    return sizes | {"vocab_size": vocabulary}


FAMILIES = {
    "bert": Family(
        "masked-language-modelling",
        lambda size: hf.BertForMaskedLM(hf.BertConfig(**sized(families.SIZES, size))),
        hf.AutoModelForMaskedLM,
        word_pieces,
    ),
    "gpt2": Family(
        "causal-language-modelling",
        lambda size: hf.GPT2LMHeadModel(hf.GPT2Config(**sized(families.GPT2, size))),
        hf.AutoModelForCausalLM,
        byte_pairs,
    ),
    "t5": Family(
        "sequence-to-sequence",
        lambda size: hf.T5ForConditionalGeneration(hf.T5Config(**sized(families.T5, size))),
        hf.AutoModelForSeq2SeqLM,
        lambda folder: hf.T5Tokenizer(pieces("<pad>", "</s>", "<unk>"), extra_ids=4).save_pretrained(folder),
    ),
    "albert": Family(
        "masked-language-modelling",
        lambda size: hf.AlbertForMaskedLM(hf.AlbertConfig(**sized(families.SIZES, size), embedding_size=32)),
        hf.AutoModelForMaskedLM,
        lambda folder: hf.AlbertTokenizer(pieces("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")).save_pretrained(folder),
    ),
}


def published(name: str, folder: Path, seed: int = 0) -> Path:
    """A folder with a model of the family, its weights drawn by the seed, and a tokenizer of its kind."""
    folder.mkdir(parents=True)
    FAMILIES[name].tokenizer(folder)
    torch.manual_seed(seed)
    FAMILIES[name].model(300).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", FAMILIES)
def test_a_loaded_base_computes_what_transformers_computes(name: str, tmp_path: Path) -> None:
    folder, family = published(name, tmp_path / name), FAMILIES[name]
    record = load.fn(base(name), str(tmp_path))
    assert record.architecture == name
    here = stages.checkout(record.files, tmp_path / "here")
    ours = architectures.pretrained(here, family.task, (), seed=99).eval()
    theirs = family.head.from_pretrained(folder).eval()
    assert record.parameters == theirs.num_parameters()

    tokenizer = hf.AutoTokenizer.from_pretrained(folder)
    encoder = tokenisers.encoder(tokenisers.read(here), 40, problems.named(family.task))
    encoded = encoder.texts(TEXTS)
    rows = [encoded.tokens[at].tolist() for at in encoded.spans()]
    assert rows == tokenizer(list(TEXTS))["input_ids"]
    assert len(set(rows[0])) > 5
    for row in rows:
        given = {"input_ids": torch.tensor([row])}
        if name == "t5":
            given["decoder_input_ids"] = torch.tensor([[0, *row[:3]]])
        with torch.inference_mode():
            assert torch.equal(ours(**given).logits, theirs(**given).logits)
