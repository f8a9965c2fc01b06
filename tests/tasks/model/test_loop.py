"""The loop: its rate, its gradient and its order, against what they are defined to be."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.nn import functional
from transformers import PreTrainedModel, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from tasks.data import batches
from tasks.data.shards import Shard
from tasks.errors import BadInput
from tasks.model import loop
from tasks.model.forward import Forward
from tasks.model.learner import Learner
from tasks.recipe import Train
from tests.tasks.model import families, small


def taken(model: PreTrainedModel, plan: loop.Plan) -> list[loop.Step]:
    return list(loop.steps(small.learner(model, plan), plan, loop.Progress()))


def first_gradient(model: PreTrainedModel, plan: loop.Plan) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of the first step, and the gradient that the optimizer got for it."""
    learner = small.learner(model, plan)
    found: dict[str, torch.Tensor] = {}

    def note(*_: Any) -> None:  # the fused step leaves the gradients as it used them, clipped
        found.update({name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None})

    learner.optimizer.register_step_post_hook(note)
    step = next(loop.steps(learner, plan, loop.Progress()))
    return float(step.loss), found


def norm(gradient: dict[str, torch.Tensor]) -> float:
    return math.sqrt(sum(float(each.double().square().sum()) for each in gradient.values()))


def test_the_rate_rises_in_a_straight_line_and_then_falls_as_the_schedule_says() -> None:
    def rates(schedule: Any) -> list[float]:
        how = Train(learning_rate=0.8, warmup=0.2, schedule=schedule)
        return [loop.rate_at(step, 10, how) for step in range(10)]

    assert rates("linear") == pytest.approx([0.4, 0.8, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert rates("constant") == pytest.approx([0.4] + 9 * [0.8])
    assert rates("cosine")[2:] == pytest.approx([0.4 * (1 + math.cos(math.pi * done / 8)) for done in range(8)])


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_after_the_warm_up_the_rate_is_that_of_transformers(schedule: Any) -> None:
    how = Train(learning_rate=0.01, warmup=0.06, schedule=schedule)
    make = get_linear_schedule_with_warmup if schedule == "linear" else get_cosine_schedule_with_warmup
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    theirs = make(optimizer, math.ceil(103 * 0.06), 103)
    for step in range(103):
        if step >= 7:
            assert loop.rate_at(step, 103, how) == pytest.approx(theirs.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        theirs.step()


def test_steps_are_numbered_end_their_epochs_and_carry_the_rate_they_were_taken_with(tmp_path: Path) -> None:
    plan = small.plan(schedule="cosine", warmup=0.3)
    found = taken(small.encoder(tmp_path), plan)
    assert [(step.number, step.epoch) for step in found] == [(n + 1, n // 3 + 1) for n in range(9)]
    assert [step.number for step in found if step.ends_epoch] == [3, 6, 9]
    assert [step.rate for step in found] == [loop.rate_at(n, 9, plan.how) for n in range(9)]
    assert sum(step.tokens for step in found) == 3 * len(plan.shard.tokens)


def test_what_is_learned_is_learned(tmp_path: Path) -> None:
    data = small.shard(200)
    plan = small.plan(data, epochs=25, learning_rate=2e-2)
    learner = small.learner(small.encoder(tmp_path, dropout=0.0), plan)
    for _ in loop.steps(learner, plan, loop.Progress()):
        pass
    loss, predicted = loop.evaluate(learner.forward, data)
    assert loss < 0.1
    assert (predicted == data.labels).mean() > 0.97


@pytest.mark.parametrize("dials", [{}, {"label_smoothing": 0.2}])
def test_the_loss_of_a_step_is_the_mean_cross_entropy_of_its_rows(tmp_path: Path, dials: dict[str, float]) -> None:
    model, plan = small.encoder(tmp_path, dropout=0.0), small.plan(**dials)
    one_by_one = []
    for row in plan.epoch(0)[0]:
        tokens, label = plan.shard.row(int(row))
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(tokens[None].astype(np.int64))).logits
        target = torch.tensor(label.astype(np.int64))
        one_by_one.append(float(functional.cross_entropy(logits, target, **dials)))
    loss, _ = first_gradient(model, plan)
    assert loss == pytest.approx(np.mean(one_by_one), abs=1e-6)


@pytest.mark.parametrize("micro_batch", [1, 3, 5, 16, 40])
@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_micro_batches_give_the_loss_and_the_gradient_of_the_whole_batch(
    tmp_path: Path, task: str, micro_batch: int
) -> None:
    data = small.shard() if task == "text-classification" else small.tagged()

    def gradient(size: int | None) -> tuple[float, dict[str, torch.Tensor]]:
        return first_gradient(small.encoder(tmp_path, task, dropout=0.0), small.plan(data, micro_batch=size, clip=1e9))

    (whole, of_whole), (parts, of_parts) = gradient(None), gradient(micro_batch)
    assert parts == pytest.approx(whole, abs=1e-6)
    assert of_parts.keys() == of_whole.keys()
    for name, each in of_whole.items():
        torch.testing.assert_close(of_parts[name], each, rtol=1e-4, atol=1e-7)


def test_the_gradient_is_no_longer_than_the_clip_and_keeps_its_direction(tmp_path: Path) -> None:
    _, long = first_gradient(small.encoder(tmp_path, dropout=0.0), small.plan(clip=1e9))
    _, short = first_gradient(small.encoder(tmp_path, dropout=0.0), small.plan(clip=0.05))
    assert norm(long) > 0.1
    assert norm(short) == pytest.approx(0.05, rel=1e-4)
    assert norm(short) <= 0.05
    for name, each in long.items():
        torch.testing.assert_close(short[name], each * (0.05 / norm(long)), rtol=1e-3, atol=1e-8)


def test_the_norm_of_a_step_is_that_before_clipping(tmp_path: Path) -> None:
    _, long = first_gradient(small.encoder(tmp_path, dropout=0.0), small.plan(clip=1e9))
    model, plan = small.encoder(tmp_path, dropout=0.0), small.plan(clip=0.05)
    step = next(loop.steps(small.learner(model, plan), plan, loop.Progress()))
    assert float(step.norm) == pytest.approx(norm(long), rel=1e-5)


def test_biases_and_norms_do_not_decay(tmp_path: Path) -> None:
    model = small.bert()
    decayed, others = small.learner(model, small.plan(weight_decay=0.3)).optimizer.param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    names = {id(each): name for name, each in model.named_parameters()}
    assert all("bias" in names[id(each)] or "LayerNorm" in names[id(each)] for each in others["params"])
    assert len(decayed["params"]) + len(others["params"]) == len(names)


@examples(max_examples=60, deadline=None)
@given(
    rows=st.integers(1, 200), batch=st.integers(1, 40), at_most=st.none() | st.integers(1, 250), seed=st.integers(0, 3)
)
def test_every_row_is_taken_once_an_epoch(rows: int, batch: int, at_most: int | None, seed: int) -> None:
    plan = small.plan(small.shard(rows), batch=batch, max_rows=at_most, seed=seed)
    epochs = [np.concatenate(plan.epoch(number)) for number in range(2)]
    assert [len(plan.epoch(number)) for number in range(2)] == [plan.per_epoch] * 2
    assert len(epochs[0]) == min(rows, at_most or rows) == len(set(epochs[0].tolist()))
    assert set(epochs[0].tolist()) == set(epochs[1].tolist()) == set(plan.rows.tolist())


def test_the_loop_sees_the_rows_of_its_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    padded = batches.padded

    def noted(data: Shard, rows: batches.Rows, pad: int) -> batches.Batch:
        seen.extend(rows.tolist())
        return padded(data, rows, pad)

    monkeypatch.setattr(batches, "padded", noted)
    plan = small.plan(micro_batch=5)
    taken(small.encoder(tmp_path), plan)
    parts = [part for epoch in range(3) for rows in plan.epoch(epoch) for part in plan.parts(rows)]
    assert seen == [int(row) for part in parts for row in part]
    assert max(map(len, parts)) == 5


@pytest.mark.parametrize("task", ["text-classification", "token-classification"])
def test_evaluation_in_batches_is_that_of_each_row_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str
) -> None:
    data = small.shard() if task == "text-classification" else small.tagged()
    forward = Forward(small.encoder(tmp_path, task), "cpu", reads=small.objective(data).reads)
    together = loop.evaluate(forward, data)
    monkeypatch.setitem(batches.AT_ONCE, "cpu", 1)
    alone = loop.evaluate(forward, data)
    assert together[0] == pytest.approx(alone[0], abs=1e-6)
    assert (together[1] == alone[1]).all()


def test_evaluation_draws_nothing_and_leaves_no_trace(tmp_path: Path) -> None:
    """An evaluation between two steps changes nothing of what is learned."""
    plain, watched, data = small.encoder(tmp_path), small.encoder(tmp_path), small.shard()
    taken(plain, small.plan())
    learner = small.learner(watched, plan := small.plan())
    for _ in loop.steps(learner, plan, loop.Progress()):
        loop.evaluate(learner.forward, data)
    assert small.same(small.weights(watched), small.weights(plain))


@pytest.mark.parametrize(
    ("error", "rows"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), 5),
        (torch.OutOfMemoryError("CUDA out of memory"), 1),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 2),
    ],
)
def test_a_step_that_does_not_fit_is_computed_in_smaller_parts_with_the_same_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: RuntimeError, rows: int
) -> None:
    """Memory for so many rows at once: the losses are those of a machine with enough.

    The error decides whether parts are halved, the rows how often: neither sees the other, so not all pairs are tried.
    """
    expected = [float(step.loss) for step in taken(small.encoder(tmp_path, dropout=0.0), small.plan())]
    computed: list[int] = []
    loss = Learner.loss

    def narrow(learner: Learner, batch: batches.Batch, labels: int) -> torch.Tensor:
        if len(batch.labels) > rows:
            raise error
        computed.append(len(batch.labels))
        return loss(learner, batch, labels)

    monkeypatch.setattr(Learner, "loss", narrow)
    plan, progress = small.plan(), loop.Progress()
    learner = small.learner(small.encoder(tmp_path, dropout=0.0), plan)
    found = [float(step.loss) for step in loop.steps(learner, plan, progress)]
    assert np.abs(np.subtract(found, expected)).max() <= 1e-5
    assert progress.halvings == {5: 2, 2: 3, 1: 4}[rows]
    assert max(computed) <= rows


def test_a_row_that_does_not_fit_alone_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Learner, "loss", never)
    with pytest.raises(torch.OutOfMemoryError):
        taken(small.encoder(tmp_path), small.plan())


def test_another_error_is_not_mistaken_for_too_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Learner, "loss", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        taken(small.encoder(tmp_path), small.plan())


@pytest.mark.parametrize("body", ["bert", "modernbert", "distilbert", "gpt2"])
def test_layers_that_are_computed_again_change_no_loss_even_with_dropout(body: str) -> None:
    def losses(recompute: bool) -> list[float]:
        plan = small.plan(recompute=recompute)
        model = families.built(body)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        learner = small.learner(model, plan)
        assert learner.forward.packs
        found = [float(step.loss) for step in loop.steps(learner, plan, loop.Progress())]
        assert not learner.release().is_activation_checkpointing
        return found

    assert np.abs(np.subtract(losses(True), losses(False))).max() <= 1e-5


def test_a_base_that_cannot_compute_its_layers_again_says_so() -> None:
    with pytest.raises(BadInput) as refused:
        small.learner(families.built("mpnet"), small.plan(recompute=True))
    assert refused.value.code == "E-RECOMPUTE"
