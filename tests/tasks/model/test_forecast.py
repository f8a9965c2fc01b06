"""The forecast counts what PyTorch keeps, what learns, and what a whole run in a process of its own takes."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from transformers import PreTrainedModel

from flows.__main__ import main
from tasks.data import batches
from tasks.data.lengths import SAMPLE, Lengths, different, of_shards, of_source
from tasks.data.sources import resolve
from tasks.model import dropout, forecast
from tasks.model.bases import Base
from tasks.model.forward import Forward
from tasks.model.learner import Learner
from tasks.model.transformer import TransformerConfig, heads
from tasks.recipe import Train
from tests import makers
from tests.bench import data
from tests.tasks.model import families, small

ROOT = Path(__file__).parents[3]
ROWS, LENGTH = 5, 13
SIZES = {**families.SIZES, "hidden_size": 96, "intermediate_size": 200, "max_position_embeddings": 64}
DROPS = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}
MODERN = {**families.MODERN, **SIZES, "attention_dropout": 0.1, "mlp_dropout": 0.1, "embedding_dropout": 0.1}
GPT2 = {**families.GPT2, "n_embd": 96, "resid_pdrop": 0.1, "attn_pdrop": 0.1}
T5 = {**families.T5, "d_model": 96, "d_kv": 24, "d_ff": 200, "dropout_rate": 0.1}
OURS = {**families.OWN, "d_model": 96, "dff": 200, "dropout": 0.1}
LLAMA = {**SIZES, **families.GROUPED}

LAYERED: dict[str, Callable[[int], PreTrainedModel]] = {
    "bert": lambda n: hf.BertForTokenClassification(hf.BertConfig(**{**SIZES, **DROPS, "num_hidden_layers": n})),
    "bert without dropout": lambda n: hf.BertForTokenClassification(
        hf.BertConfig(**{**SIZES, **families.STILL, "num_hidden_layers": n})
    ),
    "modernbert": lambda n: hf.ModernBertForTokenClassification(
        hf.ModernBertConfig(**{**MODERN, "num_hidden_layers": n, "layer_types": ["full_attention"] * n})
    ),
    "our encoder": lambda n: heads.TransformerForTokenClassification(
        TransformerConfig(**{**OURS, "num_layers": n, "architecture": "encoder"})
    ),
    "our encoder without gates": lambda n: heads.TransformerForTokenClassification(
        TransformerConfig(**{**OURS, "num_layers": n, "architecture": "encoder", "glu": False})
    ),
    "our encoder and decoder": lambda n: heads.TransformerForSeq2SeqLM(
        TransformerConfig(**{**OURS, "num_layers": n, "architecture": "encoder-decoder"})
    ),
    "llama": lambda n: hf.LlamaForTokenClassification(hf.LlamaConfig(**{**LLAMA, "num_hidden_layers": n})),
    "qwen3": lambda n: hf.Qwen3ForTokenClassification(
        hf.Qwen3Config(**{**LLAMA, "head_dim": 24, "num_hidden_layers": n})
    ),
    "gpt2": lambda n: hf.GPT2ForTokenClassification(hf.GPT2Config(**{**GPT2, "n_layer": n})),
    "t5": lambda n: hf.T5ForSequenceClassification(hf.T5Config(**{**T5, "num_layers": n})),
}


def shape_of(model: PreTrainedModel) -> forecast.Shape:
    shape = forecast.Shape.of(model.config.to_dict())
    assert shape
    return shape


def kept(model: PreTrainedModel) -> int:
    """Bytes that the graph of a batch keeps for its backward pass."""
    forward = Forward(model.train(), "cpu")
    dropout.quicken(model)
    rows = [np.append(np.arange(5, 4 + LENGTH), 1)] * ROWS
    parameters = {each.untyped_storage().data_ptr() for each in model.parameters()}
    found = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        found[storage.data_ptr()] = storage  # held, so that no other comes to lie there
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        forward(batches.of_rows(rows, forward.pad))
    return sum(storage.nbytes() for place, storage in found.items() if place not in parameters)


@pytest.mark.parametrize("name", LAYERED)
def test_a_layer_keeps_as_many_numbers_as_the_forecast_counts(name: str) -> None:
    build = LAYERED[name]
    measured = kept(build(4)) - kept(build(3))
    counted = 4 * sum(shape_of(build(3)).numbers(ROWS * LENGTH, ROWS * LENGTH**2, "cpu"))
    assert counted == pytest.approx(measured, rel=0.15)


@pytest.mark.parametrize("name", sorted(set(families.FAMILIES) - {"albert"}))  # whose layers are one
def test_parameters_are_counted_from_the_config(name: str) -> None:
    model = families.FAMILIES[name][0]()
    assert shape_of(model).parameters == pytest.approx(model.num_parameters(), rel=0.25)


def test_the_parameters_of_minilm_and_of_a_large_bert_are_those_that_everybody_knows() -> None:
    minilm = {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536}
    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    for sizes, known in ((minilm, 22.7e6), (large, 335e6)):
        shape = forecast.Shape.of({"vocab_size": 30522, "max_position_embeddings": 512, **sizes})
        assert shape
        assert shape.parameters == pytest.approx(known, rel=0.01)


@pytest.mark.parametrize("config", [b"{", b"[]", b'{"model_type": "bert"}', b'{"hidden_size": "wide", "n_layer": 2}'])
def test_a_config_that_describes_no_model_is_forecast_nothing(config: bytes) -> None:
    base = Base("broken", None, lambda folder: folder, lambda name: config if name == "config.json" else None)
    what = makers.recipe(model={"base": "broken"}, data={"source": "s3://bucket/rows.jsonl"})
    assert forecast.of(what, base, [], {}) is None


def known(lengths: list[int], used: int = 30, vocabulary: int = small.VOCABULARY) -> Lengths:
    """Rows of these lengths."""
    tokens = {"train": sum(lengths), "validation": 100, "test": 100}
    return Lengths(np.array(lengths), len(lengths), tokens, used, vocabulary, "in this test")


@pytest.mark.parametrize("top_layers", [None, 0, 1])
def test_as_many_parameters_learn_as_in_the_learner(top_layers: int | None) -> None:
    config = hf.BertConfig(**{**SIZES, **DROPS, "vocab_size": 2000})
    shard, how = small.shard(), Train(top_layers=top_layers)
    learner = Learner(hf.BertForSequenceClassification(config), shard, how)
    rows = known(shard.lengths.tolist(), used=len(np.unique(shard.tokens)), vocabulary=2000)
    shape = shape_of(learner.model)
    whole = hf.BertForSequenceClassification(config).num_parameters()
    counted = forecast.learning(shape, rows, how, whole, narrowed=top_layers is None)
    assert counted == pytest.approx(sum(each.numel() for each in learner.learns), rel=0.08)


def test_the_largest_part_of_rows_of_one_length_is_a_batch_until_the_budget_parts_it() -> None:
    rows = known([10] * 64)
    assert forecast.largest(rows, Train(batch=16), padded=False) == (forecast.Part(160, 1600), 1)
    assert forecast.largest(rows, Train(batch=16, token_budget=50), padded=False) == (forecast.Part(50, 500), 4)
    assert forecast.largest(rows, Train(batch=16, micro_batch=2), padded=False) == (forecast.Part(20, 200), 8)
    assert forecast.largest(rows, Train(batch=16), False, processes=4) == (forecast.Part(40, 400), 1)


def test_the_largest_part_is_that_of_the_steps_to_come() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 300)
    part, several = forecast.largest(known(lengths.tolist()), Train(batch=32, epochs=2, seed=5), padded=False)
    steps = [step for epoch in (0, 1) for step in batches.epoch_of(np.arange(300), None, 32, 5, epoch)]
    assert part.tokens == max(int(lengths[step].sum()) for step in steps)
    assert several == 1


def test_dials_that_save_memory_lower_the_forecast() -> None:
    shape = shape_of(hf.BertForSequenceClassification(hf.BertConfig(num_labels=3)))
    rows = known([100] * 640, used=8000, vocabulary=30522)

    def bytes_of(device: str = "cpu", **dials: Any) -> int:
        what = makers.recipe(model={"base": "bert"}, train={"batch": 64, **dials})
        return forecast.memory(what, shape, rows, device, shape.parameters).total

    plain = bytes_of(precision="fp32")
    for dials in ({"token_budget": 800}, {"micro_batch": 8}, {"recompute": True}, {"top_layers": 2}, {"batch": 16}):
        assert bytes_of(**{"precision": "fp32", **dials}) < 0.9 * plain, dials
    assert bytes_of("cuda", precision="bf16") < 0.8 * bytes_of("cuda", precision="fp32") < 0.8 * plain


def test_on_cuda_no_libraries_no_copies_and_no_heap_are_counted() -> None:
    shape = shape_of(small.bert())
    found = forecast.memory(makers.recipe(), shape, known([10] * 64), "cuda", shape.parameters)
    named = {name for name, size in found.parts.items() if size}
    assert named <= {"weights", "optimizer", "gradients and activations", "exam"}
    assert found.parts["weights"] >= 4 * shape.parameters
    assert "the GPU" in str(found)


def test_rows_of_a_source_are_sampled_as_long_as_the_shards_will_have_them(tmp_path: Path) -> None:
    with makers.at_home(tmp_path / "home"):
        what = makers.recipe(tokens={"length": 24, "tokenizer": {"train": "bpe", "vocabulary": 200}})
        made = makers.made(tmp_path / "home", what, rows=400)
        exact = of_shards(made.shards)
        sampled = of_source(what, resolve("rows.jsonl", tmp_path / "recipe"), None)
    assert "400 rows" in sampled.told
    assert sampled.rows == pytest.approx(exact.rows, rel=0.05)
    assert sampled.train.mean() == pytest.approx(exact.train.mean(), rel=0.05)
    assert sampled.tokens["test"] == pytest.approx(exact.tokens["test"], rel=0.1)


@pytest.mark.parametrize("dataset", data.DATASETS)
def test_a_sample_tells_how_many_different_tokens_there_will_be(dataset: str, datasets: Path) -> None:
    words = [text.lower().split() for text in data.read(dataset, "train").texts]
    numbers = {word: number for number, word in enumerate(sorted({word for row in words for word in row}))}
    ids = [[numbers[word] for word in row] for row in words]
    found = different(ids[:SAMPLE], len(ids))  # of whole words, of which there is no end; pieces of words are easier
    assert 1 / 1.5 < found / len(numbers) < 1.5


def test_a_sample_that_is_everything_tells_exactly() -> None:
    assert different([[1, 2], [2, 3], [4], [5, 1]], 4) == 5


def test_what_cannot_be_sampled_is_taken_to_be_as_long_as_it_may_be() -> None:
    found = of_source(makers.recipe(data={"source": "s3://bucket/rows.jsonl"}), [], None)
    assert found.train.tolist() == [24] * 1600
    assert "taken to be 24 tokens" in found.told


def test_a_whole_run_takes_what_was_forecast(prefect_server: None, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = str(ROOT / "flows/recipes/quickstart.yaml")
    base = "model.base={architecture: encoder, num_layers: 4, d_model: 256, num_heads: 4}"
    dials = ["--set", base, "--set", "train.batch=128", "--set", "train.epochs=1", "--set", "train.max_rows=384"]

    def forecast_now() -> Any:
        assert main(["check", "--json", recipe, *dials]) == 0
        return json.loads(capsys.readouterr().out)["memory"]

    before = forecast_now()
    command = [sys.executable, "-m", "tests.bench.memory", "run", recipe, *dials]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode in (0, 3), run.stderr[-2000:]
    measured = json.loads(run.stdout.splitlines()[-1]) * 1e6
    after = forecast_now()
    assert "rows of the source" in before["rows"]
    assert after["rows"] == "as the shards have them"
    for forecasted in (before["bytes"], after["bytes"]):
        assert forecasted == pytest.approx(measured, rel=0.2)
