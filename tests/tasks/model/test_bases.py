"""Bases as others publish them: four families, each with its tokenizer, in a folder and on a hub."""

import string
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any, NamedTuple

import pytest
import torch
import transformers as hf

from tasks import problems, stages
from tasks.data import tokenisers
from tasks.errors import Missing, Unreachable
from tasks.model import architectures
from tasks.model.load import load
from tasks.recipe import Task
from tasks.records import Checkpoint
from tests.hub import Hub
from tests.tasks.data.test_tokenisers import trained
from tests.tasks.model import families
from tests.tasks.model.test_load import base, logits

TEXTS = ("my invoice is late", "charged again and again for the roses")
LETTERS = [("▁", -2.0), ("▁my", -3.0), *((letter, -4.0) for letter in string.ascii_lowercase)]
FIRST, SECOND = "1" * 40, "2" * 40


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


def fetched(name: str, revision: str, where: Path) -> Checkpoint:
    return load.fn(base(f"hf://org/{name}@{revision}"), str(where))


@pytest.mark.parametrize("name", FAMILIES)
def test_a_revision_of_a_hub_is_downloaded_once_and_read_without_it_from_then_on(
    name: str, hub: Hub, tmp_path: Path
) -> None:
    folder = published(name, hub.root / "org" / name / FIRST)
    found = fetched(name, FIRST, tmp_path)
    assert found.files == load.fn(base(str(folder)), str(tmp_path)).files
    hub.server_close()
    asked = len(hub.asked)
    assert asked
    assert fetched(name, FIRST, tmp_path) == found
    assert stages.REUSED.get()
    assert len(hub.asked) == asked
    with pytest.raises(Unreachable, match="E-HUB-UNAVAILABLE"):
        fetched(name, SECOND, tmp_path)


def test_another_revision_is_another_stage(hub: Hub, tmp_path: Path) -> None:
    for seed, revision in enumerate((FIRST, SECOND)):
        published("bert", hub.root / "org" / "bert" / revision, seed)
    first, second = (fetched("bert", revision, tmp_path) for revision in (FIRST, SECOND))
    assert not stages.REUSED.get()
    assert first.digest != second.digest
    assert {name for name in first.files if first.files[name] != second.files[name]} == {"model.safetensors"}
    assert fetched("bert", FIRST, tmp_path) == first


def test_what_a_hub_holds_beside_the_model_is_left_there(hub: Hub, tmp_path: Path) -> None:
    folder = published("bert", hub.root / "org" / "bert" / FIRST)
    wanted = load.fn(base(str(folder)), str(tmp_path)).files
    copytree(folder, folder / "2_Dense")  # as sentence-transformers lays out what follows the model
    for name in ("README.md", "training_args.bin", "modeling.py", "tf_model.h5"):
        (folder / name).write_bytes(b"\x80\x04N.")
    assert fetched("bert", FIRST, tmp_path).files == wanted
    assert not [path for path in hub.asked if "resolve" in path and path.endswith((".md", ".py", ".h5", "args.bin"))]


def test_a_state_dict_is_downloaded_where_there_are_no_safetensors(hub: Hub, tmp_path: Path) -> None:
    folder = published("bert", hub.root / "org" / "bert" / FIRST)
    expected = logits(load.fn(base(str(folder)), str(tmp_path)), tmp_path)
    torch.save(hf.BertForMaskedLM.from_pretrained(folder).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert torch.equal(logits(fetched("bert", FIRST, tmp_path), tmp_path), expected)


def test_a_revision_that_the_hub_does_not_have_is_missing(hub: Hub, tmp_path: Path) -> None:
    published("bert", hub.root / "org" / "bert" / FIRST)
    for name, revision in (("bert", SECOND), ("bart", FIRST)):
        with pytest.raises(Missing, match="E-HUB-MISSING"):
            fetched(name, revision, tmp_path)
