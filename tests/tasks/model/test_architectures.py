"""Bodies and heads: drawn by a seed, kept where they fit, replaced where they do not."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, BertConfig, MPNetConfig, PretrainedConfig, PreTrainedModel, RobertaConfig, ViTConfig

from tasks.errors import BadInput
from tasks.model import architectures
from tasks.recipe import Architecture, Task

TEXT: Task = "text-classification"
SMALL: dict[str, Any] = {
    "num_hidden_layers": 2,
    "hidden_size": 16,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "vocab_size": 40,
}
SPECIAL = {"pad": 0, "cls": 2, "sep": 3}


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """The config of an architecture, as `load` keeps it."""
    small = Architecture(architecture="encoder", num_layers=3, d_model=16, num_heads=2)
    architectures.config_of(small).save_pretrained(tmp_path / "encoder")
    return tmp_path / "encoder"


def drawn(folder: Path, labels: tuple[str, ...] = ("a", "b"), seed: int = 0, task: Task = TEXT) -> PreTrainedModel:
    return architectures.initialised(folder, task, labels, special=SPECIAL, vocabulary=50, length=20, seed=seed)


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A BERT of random weights with a head for the labels a and b."""
    BertConfig(**SMALL, max_position_embeddings=20).save_pretrained(tmp_path / "config")
    drawn(tmp_path / "config", seed=5).save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


def test_every_weight_of_an_architecture_is_drawn_by_the_seed(encoder: Path) -> None:
    torch.manual_seed(99)
    first = weights(drawn(encoder, seed=1))
    torch.manual_seed(7)
    assert same(first, weights(drawn(encoder, seed=1)))
    assert not same(first, weights(drawn(encoder, seed=2)))


def test_an_architecture_takes_the_size_of_its_tokenizer_and_its_labels(encoder: Path) -> None:
    model = drawn(encoder, ("x", "y", "z"))
    assert model.config.vocab_size == model.get_input_embeddings().num_embeddings == 50
    assert model.config.max_position_embeddings == 20
    assert (model.config.pad_token_id, model.config.cls_token_id, model.config.sep_token_id) == (0, 2, 3)
    assert model.config.id2label == {0: "x", 1: "y", 2: "z"}
    assert model.config.num_labels == 3


def test_a_width_that_heads_cannot_share_is_refused() -> None:
    for heads in (3, 4):  # a part of a number, an odd one
        with pytest.raises(BadInput, match="wanted") as caught:
            architectures.config_of(Architecture(architecture="encoder", d_model=20, num_heads=heads))
        assert caught.value.code == "E-MODEL-CONFIG"


def test_a_base_with_the_same_labels_keeps_its_head(bert: Path) -> None:
    one, other = (architectures.pretrained(bert, TEXT, ("a", "b"), seed=seed) for seed in (1, 2))
    assert same(weights(one), weights(other))
    kept = architectures.pretrained(bert, TEXT, ("a", "b"), seed=3)
    assert torch.equal(kept.classifier.weight, one.classifier.weight)
    assert kept.config.id2label == {0: "a", 1: "b"}


@pytest.mark.parametrize("labels", [("b", "a"), ("a", "c"), ("a", "b", "c")])
def test_other_labels_get_a_new_head_on_the_same_body(bert: Path, labels: tuple[str, ...]) -> None:
    base = architectures.pretrained(bert, TEXT, ("a", "b"), seed=0)
    model, again, other = (architectures.pretrained(bert, TEXT, labels, seed=seed) for seed in (1, 1, 2))
    assert same(weights(model.base_model), weights(base.base_model))
    assert model.classifier.weight.shape[0] == len(labels)
    assert not torch.equal(model.classifier.weight[:2], base.classifier.weight[: len(labels)])
    assert torch.equal(model.classifier.weight, again.classifier.weight)
    assert not torch.equal(model.classifier.weight, other.classifier.weight)


def test_a_body_without_a_head_gets_one_for_words(bert: Path, tmp_path: Path) -> None:
    body = AutoModel.from_pretrained(bert, local_files_only=True)
    body.save_pretrained(tmp_path / "body")
    one, again = (
        architectures.pretrained(tmp_path / "body", "token-classification", ("O", "B-A", "I-A"), seed=4)
        for _ in range(2)
    )
    assert same(weights(one), weights(again))
    found = weights(one.base_model)
    assert all(torch.equal(found[name], tensor) for name, tensor in weights(body).items() if name in found)
    assert one(torch.tensor([[2, 8, 3]])).logits.shape == (1, 3, 3)


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (BertConfig(**SMALL, max_position_embeddings=20), 20),
        (RobertaConfig(**SMALL, max_position_embeddings=20, pad_token_id=1), 18),
        (MPNetConfig(**SMALL, max_position_embeddings=20, pad_token_id=1), 18),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_the_length_of_a_model_is_the_longest_row_that_it_computes(config: PretrainedConfig, length: int) -> None:
    assert architectures.length_of(config) == length
    model = AutoModel.from_config(config)
    assert model(torch.full((1, length), 5)).last_hidden_state.shape == (1, length, 16)
    with pytest.raises((IndexError, RuntimeError)):
        model(torch.full((1, length + 1), 5))


def test_the_published_sizes_give_the_published_lengths() -> None:
    assert architectures.length_of(BertConfig()) == 512
    assert architectures.length_of(RobertaConfig(max_position_embeddings=514)) == 512


def test_a_model_that_has_no_head_for_the_task_is_named(tmp_path: Path) -> None:
    pair = Architecture(architecture="encoder-decoder", num_layers=1, d_model=16, num_heads=2)
    architectures.config_of(pair).save_pretrained(tmp_path / "pair")
    with pytest.raises(BadInput, match="E-MODEL-TASK a vernal-transformer cannot learn text-classification"):
        drawn(tmp_path / "pair")
    ViTConfig().save_pretrained(tmp_path / "pictures")
    with pytest.raises(BadInput, match="E-MODEL-TASK a vit cannot learn text-classification"):
        architectures.pretrained(tmp_path / "pictures", TEXT, ("a", "b"), seed=0)
