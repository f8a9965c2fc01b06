"""The Transformer of one's own that ships is a BERT under other names, and is loaded from its my_model.pt."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import BertConfig, BertModel

from infra.settings import settings
from tasks import recipe, stages
from tasks.data import tokenisers
from tasks.model import architectures
from tasks.model.load import load
from tests.tasks.data.test_tokenisers import trained

SOURCE = Path(__file__).parents[2] / "flows" / "recipes" / "seeds" / "custom_transformer.py"
SIZES = {"num_layers": 2, "d_model": 24, "num_heads": 3, "dff": 40, "pe_input": 16}


@pytest.fixture(scope="module")
def ours() -> ModuleType:
    spec = importlib.util.spec_from_file_location("custom_transformer", SOURCE)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def bert(tmp_path: Path) -> BertModel:
    """A small BERT with weights drawn at random, biases and norms included; saved in `tmp_path/bert`."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=60,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        max_position_embeddings=16,
    )
    model = BertModel(config).eval()
    for each in model.parameters():
        torch.nn.init.normal_(each, std=0.3)
    model.save_pretrained(tmp_path / "bert")
    tokenisers.write(trained("wordpiece"), tmp_path / "bert")
    return model


def test_a_converted_bert_computes_what_it_did(ours: ModuleType, bert: BertModel, tmp_path: Path) -> None:
    ours.convert(tmp_path / "bert", tmp_path / "custom")
    model = ours.CustomTransformer(**SIZES, vocabulary=60, labels=1, length=12).eval()
    model.load_state_dict(torch.load(tmp_path / "custom" / "my_model.pt", weights_only=True))
    ids, mask = torch.randint(5, 60, (3, 12)), torch.ones(3, 12, dtype=torch.int64)
    mask[1, 7:] = 0
    theirs = bert(ids, attention_mask=mask).last_hidden_state
    assert torch.allclose(model.states(ids, mask)[mask > 0], theirs[mask > 0], atol=1e-5)
    mean = theirs[1, :7].mean(0)
    torch.nn.init.eye_(model.head.weight)
    assert torch.allclose(model(ids, mask)[1], mean[:1], atol=1e-5)


def test_its_recipe_takes_the_weights_and_draws_a_head(
    ours: ModuleType, bert: BertModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours.convert(tmp_path / "bert", tmp_path / "models" / "custom")
    monkeypatch.setenv("VERNAL_MODELS", str(tmp_path / "models"))
    settings.cache_clear()
    wanted = recipe.load(SOURCE.with_name("000_custom_model.yaml"), [f"model.base.config={json.dumps(SIZES)}"])
    base = load.fn(wanted.model, str(SOURCE.parent))
    folder = stages.checkout(base.files, tmp_path / "base")
    model = architectures.settled(folder, wanted.task, ("no", "yes"), vocabulary=60, length=12, pad=0, seed=0)
    assert torch.equal(model.module.tokens.weight, bert.embeddings.word_embeddings.weight)
    assert model.module.head.weight.shape == (2, 24)
    assert model.module.head.weight.any()


def test_rows_that_are_longer_than_the_positions_are_refused(ours: ModuleType) -> None:
    with pytest.raises(ValueError, match="rows of 17 tokens, but pe_input is 16"):
        ours.CustomTransformer(**SIZES, vocabulary=60, labels=2, length=17)
