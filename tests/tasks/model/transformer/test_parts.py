"""The parts of the Transformer give what their equations say, and what torch's own parts give."""

import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForSequenceClassification

from tasks.model.transformer import TransformerConfig
from tasks.model.transformer.attention import Attention, scaled_dot_product
from tasks.model.transformer.layers import FeedForward, Layer
from tasks.model.transformer.positions import rotated, rotation, sinusoids
from tests.tasks.model.transformer import made

DRAWN = {"initializer_range": 0.02}


def test_three_tokens_attend_as_computed_by_hand() -> None:
    """q_i k_j / sqrt(1) = 0 or ln 2 or ln 3, so that weights are shares of small whole numbers."""
    query = torch.tensor([0.0, 1.0, 1.0]).view(1, 1, 3, 1)
    key = torch.tensor([0.0, math.log(2), math.log(3)]).view(1, 1, 3, 1)
    value = torch.tensor([[1.0, 0.0], [0.0, 1.0], [6.0, 6.0]]).view(1, 1, 3, 2)
    found, weights = scaled_dot_product(nn.Identity(), query, key, value, None)
    assert weights is not None
    by_hand = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1 / 6, 2 / 6, 3 / 6], [1 / 6, 2 / 6, 3 / 6]])
    assert (weights[0, 0] - by_hand).abs().max() <= 1e-6
    answers = torch.tensor([[7 / 3, 7 / 3], [19 / 6, 20 / 6], [19 / 6, 20 / 6]])
    assert (found[0, :, 0] - answers).abs().max() <= 1e-6
    theirs = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2)
    assert (found - theirs).abs().max() <= 1e-6


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_heads_are_those_of_torch(implementation: str) -> None:
    torch.manual_seed(0)
    config = TransformerConfig(**made.SIZES)
    config._attn_implementation = implementation
    ours, theirs = Attention(config, 0), nn.MultiheadAttention(32, 4, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.q_proj.weight, ours.k_proj.weight, ours.v_proj.weight]))
        theirs.out_proj.weight.copy_(ours.out_proj.weight)
    states, source = torch.randn(2, 7, 32), torch.randn(2, 9, 32)
    assert (ours(states)[0] - theirs(states, states, states)[0]).abs().max() <= 1e-5
    crossed = ours(states, key_value_states=source)[0]
    assert (crossed - theirs(states, source, source)[0]).abs().max() <= 1e-5


def test_the_first_sine_waves_are_those_of_the_paper() -> None:
    found = sinusoids(torch.tensor([[0, 1, 5]]), 4)[0]
    expected = [[math.sin(p), math.cos(p), math.sin(p / 100), math.cos(p / 100)] for p in (0, 1, 5)]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_turned_queries_and_keys_know_their_distance_only() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8).unbind()

    def product(at: int, other: int) -> torch.Tensor:
        places = (rotation(torch.tensor([[each]]), 8) for each in (at, other))
        return (rotated(query, next(places)) * rotated(key, next(places))).sum()

    assert product(3, 1) == pytest.approx(float(product(30, 28)), abs=1e-4)
    assert abs(product(3, 1) - product(3, 2)) > 1e-2
    assert rotated(query, rotation(torch.tensor([[7]]), 8)).norm() == pytest.approx(float(query.norm()), rel=1e-5)


@pytest.mark.parametrize("glu", [True, False])
@pytest.mark.parametrize("activation", ["gelu", "silu", "relu"])
def test_a_feed_forward_net_is_its_equation_and_has_its_gradient(glu: bool, activation: Any) -> None:
    torch.manual_seed(0)
    net = FeedForward(TransformerConfig(**made.SIZES | {"glu": glu, "activation": activation})).double()
    states, act = torch.randn(2, 3, 32, dtype=torch.float64, requires_grad=True), getattr(functional, activation)
    up, down = net.up_proj, net.down_proj
    if net.gate_proj is None:
        expected = act(states @ up.weight.T + up.bias) @ down.weight.T + down.bias
    else:
        expected = (act(states @ net.gate_proj.weight.T) * (states @ up.weight.T)) @ down.weight.T
    assert torch.allclose(net(states), expected, atol=1e-12)
    assert torch.autograd.gradcheck(net, (states[:1, :2],))


def alone(self: Layer, states: torch.Tensor, norm: nn.Module, part: Any) -> torch.Tensor:
    """A sub-layer that adds to nothing."""
    found: torch.Tensor = part(norm(states))
    return found


def trained(steps: int, norm: str) -> tuple[float, float]:
    """The norm of the lowest layer's first gradient, and the last loss, of 24 layers that learn 32 rows."""
    model = made.model(AutoModelForSequenceClassification, "encoder", num_layers=24, norm=norm, num_labels=4, **DRAWN)
    ids = made.ids(32, 12)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    gradients = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = model(input_ids=ids, labels=ids[:, 0] % 4).loss
        loss.backward()
        lowest = [each.grad.norm() for each in model.model.encoder.layers[0].parameters()]
        gradients.append(float(torch.stack(lowest).norm()))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return gradients[0], float(loss.detach())


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_the_gradient_reaches_the_first_of_24_layers_through_what_each_adds_to(
    norm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained(1, norm)[0] > 1e-4
    monkeypatch.setattr(Layer, "added", alone)
    assert trained(1, norm)[0] < 1e-4


@pytest.mark.matrix
def test_24_layers_learn_and_without_what_they_add_to_they_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert trained(60, "pre")[1] < 0.3
    monkeypatch.setattr(Layer, "added", alone)
    assert trained(60, "pre")[1] > 0.9 * math.log(4)
