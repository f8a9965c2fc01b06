"""Packed rows give what padded rows give, and a model for which they would not is computed padded."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from tasks import problems
from tasks.data import batches
from tasks.data.shards import At, Shard
from tasks.model import loop
from tasks.model.forward import Forward, Way
from tasks.model.learner import Learner
from tasks.problems.contract import PLAIN, Objective
from tasks.recipe import Train
from tests.tasks.model import families, small

LossOf = Callable[[PreTrainedModel, Shard, batches.Rows, int], torch.Tensor]  # of the rows, in an epoch from 1

STEPS = 20  # four epochs, with a weight decay of which a tenth would be seen in them
TRAIN = Train(batch=8, epochs=4, learning_rate=1e-3, weight_decay=0.1, precision="fp32", early_stopping=0)


def ragged(model: PreTrainedModel, rows: int = 40) -> Shard:
    """Rows of 2 to 40 tokens that use a third of the vocabulary, ending with the model's end token."""
    draw = np.random.default_rng(0)
    texts = [draw.integers(5, 100, draw.integers(2, 41)) for _ in range(rows)]
    if isinstance(model.config.eos_token_id, int):
        for text in texts:
            text[-1] = model.config.eos_token_id
    per_token = "Token" in type(model).__name__
    tokens = np.concatenate(texts).astype(np.uint16)
    labels = tokens % 5 if per_token else np.array([text[0] % 5 for text in texts])
    at: At = "tokens" if per_token else "rows"
    return Shard(tokens, np.cumsum([0, *map(len, texts)]), labels.astype(np.int32), at)


def objective(model: PreTrainedModel) -> Objective:
    return problems.named("token-classification") if "Token" in type(model).__name__ else PLAIN


def plain_loss(model: PreTrainedModel, shard: Shard, rows: batches.Rows, _epoch: int) -> torch.Tensor:
    """The cross entropy of padded rows."""
    batch = batches.padded(shard, rows, model.config.pad_token_id or 0)
    given = {"input_ids": torch.from_numpy(batch.ids), "attention_mask": torch.from_numpy(batch.mask)}
    logits = model(**given).logits
    if shard.at == "tokens":
        logits = logits[given["attention_mask"].bool()]
    return functional.cross_entropy(logits, torch.from_numpy(batch.labels))


def plain_losses(
    model: PreTrainedModel, shard: Shard, loss_of: LossOf = plain_loss, kind: Any = torch.optim.AdamW
) -> list[float]:
    """Losses of a loop as everybody writes it: padded batches, PyTorch's clipping, the whole vocabulary."""
    model.train()
    plan = loop.Plan(shard, TRAIN)
    decayed = [each for each in model.parameters() if each.dim() > 1]
    others = [each for each in model.parameters() if each.dim() <= 1]
    optimizer = kind([{"params": decayed, "weight_decay": TRAIN.weight_decay}, {"params": others, "weight_decay": 0.0}])
    losses = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = loop.rate_at(step, plan.total, TRAIN)
        rows = plan.epoch(step // plan.per_epoch)[step % plan.per_epoch]
        loss = loss_of(model, shard, rows, step // plan.per_epoch + 1)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), TRAIN.clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("name", families.FAMILIES)
def test_each_family_is_computed_in_the_fastest_way_that_is_right(name: str) -> None:
    model = families.built(name)
    assert Forward(model, "cpu", reads=objective(model).reads).way == families.FAMILIES[name][1]


@pytest.mark.parametrize("name", families.FAMILIES)
def test_twenty_steps_have_the_losses_of_a_plain_padded_loop(name: str) -> None:
    model = families.built(name)
    shard = ragged(model)
    expected = plain_losses(families.built(name), shard)
    learner = Learner(model, shard, TRAIN, "cpu", objective=objective(model))
    steps = loop.steps(learner, loop.Plan(shard, TRAIN), loop.Progress())
    found = [float(step.loss) for step, _ in zip(steps, range(STEPS), strict=False)]
    assert expected[0] > 1.5 * min(expected)
    assert np.abs(np.subtract(found, expected)).max() <= 1e-5


@pytest.mark.parametrize(
    ("name", "kind"), [("adam", torch.optim.Adam), ("sgd", partial(torch.optim.SGD, momentum=0.9))]
)
def test_another_optimizer_has_the_losses_of_pytorchs(name: Literal["adam", "sgd"], kind: Any) -> None:
    model, how = families.built("bert"), TRAIN.model_copy(update={"optimizer": name})
    shard = ragged(model)
    expected = plain_losses(families.built("bert"), shard, kind=kind)
    learner = Learner(model, shard, how, "cpu", objective=objective(model))
    found = [float(step.loss) for step in loop.steps(learner, loop.Plan(shard, how), loop.Progress())]
    assert expected[0] > 1.01 * min(expected)
    assert np.abs(np.subtract(found, expected)).max() <= 1e-5


def test_our_own_encoder_has_the_losses_of_a_plain_padded_loop(tmp_path: Path) -> None:
    shard = small.shard(40)
    expected = plain_losses(small.encoder(tmp_path, dropout=0.0), shard)
    learner = Learner(small.encoder(tmp_path, dropout=0.0), shard, TRAIN, "cpu")
    found = [float(step.loss) for step in loop.steps(learner, loop.Plan(shard, TRAIN), loop.Progress())]
    assert learner.forward.way == "packed"
    assert np.abs(np.subtract(found, expected)).max() <= 1e-5


def test_packing_unproved_would_have_been_wrong_for_the_families_that_are_padded() -> None:
    model = families.built("mixing").eval()
    batch = batches.padded(ragged(model), np.arange(6), 0)
    found = [Forward(model, "cpu", way=way) for way in ("packed", "padded")]
    with torch.no_grad():
        packed, padded = found[0](batch), found[0].release() and found[1](batch)
    assert (packed - padded).abs().max() > 1e-2


@pytest.mark.parametrize("way", ["packed", families.FIRST])
def test_layers_computed_again_in_the_backward_pass_see_their_own_rows(way: Way) -> None:
    """Two forward passes before one backward pass: boundaries that stood in a global would be the second's."""
    gradients = []
    for checkpointing in (False, True):
        model = families.built("bert").train()
        forward = Forward(model, "cpu", way=way)
        if checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        shard = ragged(model)
        both = [forward(batches.padded(shard, np.arange(a, a + 4), 0)).square().sum() for a in (0, 4)]
        sum(both).backward()
        gradients.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_a_released_model_is_a_stock_model() -> None:
    model, stock = families.built("bert").eval(), families.built("bert").eval()
    Forward(model, "cpu").release()
    ids = torch.randint(5, 300, (3, 9))
    assert torch.equal(model(input_ids=ids).logits, stock(input_ids=ids).logits)
    assert not model.base_model._forward_pre_hooks
    assert model.config._attn_implementation == stock.config._attn_implementation


def test_with_dropout_the_same_share_is_dropped_and_made_up_for() -> None:
    torch.manual_seed(0)
    config = BertConfig(**families.SIZES, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1)
    model = BertForSequenceClassification(config)
    shard = ragged(model)
    learner = Learner(model, shard, TRAIN, "cpu")
    batch = batches.padded(shard, np.tile(np.arange(4), 20), 0)  # each row 20 times at once, each time drawn anew
    with torch.no_grad():
        ours = torch.cat([learner.forward(batch).view(20, 4, -1) for _ in range(20)])
        stock = learner.release().train()
        given = {"input_ids": torch.from_numpy(batch.ids), "attention_mask": torch.from_numpy(batch.mask)}
        theirs = torch.cat([stock(**given).logits.view(20, 4, -1) for _ in range(20)])
    error = float(theirs.std(0).max()) * (2 / 400) ** 0.5  # of a difference of two means
    assert (ours.mean(0) - theirs.mean(0)).abs().max() < 4 * error
    assert float(ours.std(0).mean()) == pytest.approx(float(theirs.std(0).mean()), rel=0.05)
