"""Recipes of the seeds: each learns, and the Transformer of one's own among them is a BERT under other names."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel

from infra.settings import settings
from tasks import recipe, stages
from tasks.data import tokenisers
from tasks.data.ingest import ingest
from tasks.data.tokenise import tokenise
from tasks.data.validate import validate
from tasks.model import architectures
from tasks.model.finetune import finetune
from tasks.model.load import load
from tasks.model.training import Job, lay_out, model_of
from tests import makers, test_recipes
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


LEARNED = {"train.epochs": "6", "train.batch": "16", "train.learning_rate": "1e-2", "train.early_stopping": "0"}
SHRUNK = test_recipes.SHRUNK | LEARNED | {"model.base": test_recipes.SMALL.replace("num_layers: 1", "num_layers: 2")}
STILL = {"002_customised": ("model.encoder.embed_tokens.", "model.encoder.layers.0.")}  # below the layers that learn


def few(source: Path, target: Path) -> None:
    """Some rows of each split of a dataset, from all over it."""
    target.mkdir(parents=True)
    for path in source.iterdir():
        rows = 200 if path.stem == "train" else 40
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            pq.write_table(table.take(list(range(0, len(table), len(table) // rows))), target / path.name)
        elif path.suffix == ".jsonl":
            lines = path.read_bytes().splitlines(keepends=True)
            (target / path.name).write_bytes(b"".join(lines[:: len(lines) // rows]))


@pytest.mark.matrix
@pytest.mark.parametrize("path", sorted(SOURCE.parent.glob("*.yaml")), ids=lambda path: path.stem)
def test_while_a_seed_trains_its_loss_falls_and_its_weights_move(
    path: Path, datasets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = SHRUNK | test_recipes.OTHERWISE.get(path.stem, {})
    what = recipe.load(path, [f"{name}={value}" for name, value in changes.items()])
    few(datasets / str(what.data.source), tmp_path / "data" / str(what.data.source))
    monkeypatch.setenv("VERNAL_DATA", str(tmp_path / "data"))
    with makers.at_home(tmp_path / "home"):
        snapshot = ingest.fn(what.data, what.task, str(path.parent))
        checked = validate.fn(snapshot, what.task, what.data, what.rules)
        base = load.fn(what.model, str(path.parent))
        shards = tokenise.fn(checked, base, what.task, what.tokens)
        job = Job(base=base, data=shards, task=what.task, train=what.train, name="a", run_key="b", checkpoints="c")
        lay_out(tmp_path / "job", job)
        model_of(tmp_path / "job", job).save_pretrained(tmp_path / "before")
        trained = finetune.fn(base, shards, what.task, what.train, what.name, what.digest)
        paths = (tmp_path / "before" / "model.safetensors", stages.open_file(trained.files["model.safetensors"]))
        before, after = map(load_file, paths)
        history = stages.open_file(trained.files["history.jsonl"]).read_text().splitlines()
    losses = [point["loss"] for point in map(json.loads, history) if "loss" in point]
    assert sum(losses[-3:]) < 0.9 * sum(losses[:3])
    still = {name for name in after if torch.equal(after[name], before[name])}
    assert still == {name for name in before if name.startswith(STILL.get(path.stem, ()))}
    assert len(before) > len(still) + 10
