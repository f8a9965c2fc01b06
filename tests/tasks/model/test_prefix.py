"""The top of a model learns from states that were computed once, as it would from states computed each time."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
import transformers as hf

from tasks.errors import BadInput
from tasks.model import loop
from tasks.model.learner import Learner
from tasks.recipe import Train
from tests.tasks.model import families, test_heads
from tests.tasks.model.test_forward import objective, ragged

KEY_BIASES = ("key.bias", "k_lin.bias", "c_attn.bias")  # have no gradient but rounding: softmax takes no notice of them
STACKS = ["bert", "bert-tokens", "roberta", "distilbert", "modernbert", "llama", "gpt2"]


def trained(name: str, top_layers: int, folder: Path | None) -> tuple[list[float], dict[str, torch.Tensor], float]:
    """Losses, final weights, and the loss on the rows afterwards; states are kept if there is a folder."""
    model = families.built(name)
    how = Train(batch=8, epochs=3, learning_rate=3e-4, precision="fp32", top_layers=top_layers)
    shard = ragged(model)
    learner = Learner(model, shard, how, "cpu", objective=objective(model))
    if folder:
        learner.keep([shard], folder)
    losses = [float(step.loss) for step in loop.steps(learner, loop.Plan(shard, how), loop.Progress())]
    after, _ = loop.evaluate(learner.forward, shard)
    return losses, {key: each.clone() for key, each in learner.release().state_dict().items()}, after


@cache
def kept(name: str, top_layers: int) -> tuple[list[float], dict[str, torch.Tensor], float]:
    """What `trained` makes of states that are kept; two tests look at it."""
    with TemporaryDirectory() as folder:
        return trained(name, top_layers, Path(folder))


@pytest.mark.parametrize("top_layers", [0, 1, 2])
@pytest.mark.parametrize("name", STACKS)
def test_kept_states_change_no_loss_and_no_weight(name: str, top_layers: int) -> None:
    losses, weights, after = trained(name, top_layers, None)
    found, theirs, again = kept(name, top_layers)
    assert np.abs(np.subtract(found, losses)).max() <= 1e-5
    assert again == pytest.approx(after, abs=1e-5)
    assert weights.keys() == theirs.keys()
    for key, each in weights.items():
        if not key.endswith(KEY_BIASES):
            torch.testing.assert_close(theirs[key], each, rtol=1e-3, atol=2e-4)


@pytest.mark.parametrize("top_layers", [0, 1, 2])
@pytest.mark.parametrize("name", STACKS)
def test_only_the_layers_named_and_what_comes_after_them_change(name: str, top_layers: int) -> None:
    before = families.built(name).state_dict()
    _, after, _ = kept(name, top_layers)
    changed = {key for key, each in before.items() if not torch.equal(each, after[key])}
    layers = {key: int(part) for key in before for part in key.split(".") if part.isdigit()}
    depth = max(layers.values()) + 1
    assert {layers[key] for key in changed if key in layers} == set(range(depth - top_layers, depth))
    assert not any("embed" in key or "wte" in key or "wpe" in key for key in changed)
    assert any("classifier" in key or "score" in key for key in changed)


def test_frozen_layers_drop_nothing_out() -> None:
    torch.manual_seed(0)
    model = hf.BertForSequenceClassification(hf.BertConfig(**families.SIZES))
    shard = ragged(model)
    learner = Learner(model, shard, Train(top_layers=1, precision="fp32"), "cpu")
    layer = model.bert.encoder.layer
    seen: list[torch.Tensor] = []
    layer[2].register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    out: list[torch.Tensor] = []
    layer[2].register_forward_hook(lambda _, _given, states: out.append(states.detach()))
    for _ in range(2):
        learner.forward(learner.forward.batch(shard, np.arange(4)))
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(out[0], out[1])


@pytest.mark.parametrize(
    ("name", "top_layers", "found"), [("bert", 9, "9 > 3"), ("albert", 1, "albert"), ("t5", 1, "t5")]
)
def test_layers_that_cannot_be_told_apart_are_refused(name: str, top_layers: int, found: str) -> None:
    model = families.built(name)
    with pytest.raises(BadInput, match=found) as refused:
        Learner(model, ragged(model), Train(top_layers=top_layers), "cpu")
    assert refused.value.code == "E-LAYERS"


@pytest.mark.parametrize("top_layers", [0, 2])
@pytest.mark.parametrize("name", ["llama", "questions", "choices"])
def test_kept_states_change_no_loss_of_any_head(name: str, top_layers: int, tmp_path: Path) -> None:
    def losses(folder: Path | None) -> list[float]:
        head = test_heads.HEADS[name]
        how = Train(batch=8, epochs=2, learning_rate=3e-4, precision="fp32", top_layers=top_layers)
        shard = head.rows()
        learner = Learner(head.built(), shard, how, "cpu", objective=head.objective)
        if folder:
            learner.keep([shard], folder)
        return [float(step.loss) for step in loop.steps(learner, loop.Plan(shard, how), loop.Progress())]

    assert np.abs(np.subtract(losses(tmp_path), losses(None))).max() <= 1e-5


def test_a_head_that_is_the_frozen_embedding_does_not_learn_alone() -> None:
    head = test_heads.HEADS["gpt2"]
    with pytest.raises(BadInput, match="gpt2 is its embedding") as refused:
        Learner(head.built(), head.rows(), Train(top_layers=0), "cpu", objective=head.objective)
    assert refused.value.code == "E-LAYERS"


def test_rows_that_are_corrupted_anew_are_computed_anew(tmp_path: Path) -> None:
    head = test_heads.HEADS["bert"]
    learner = Learner(head.built(), head.rows(), Train(top_layers=1), "cpu", objective=head.objective, **head.how)
    learner.keep([head.rows()], tmp_path)
    assert learner.forward.prefix is None
