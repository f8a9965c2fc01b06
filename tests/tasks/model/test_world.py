"""Several processes make of a batch what one makes of it, and what happens to one of them happens to all."""

import itertools
from collections.abc import Container
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks.model import loop
from tasks.model.learner import Learner
from tasks.model.world import ALONE, World
from tests.tasks.model import families, groups, small, test_heads

KINDS = ("none", "full")  # of sharding
WAYS = ("forward", "backward")
TASKS = ("text-classification", "token-classification")


def learner_of(world: World, task: str, folder: Path, **dials: Any) -> tuple[Learner, loop.Plan]:
    data = small.shard() if task == "text-classification" else small.tagged()
    plan = small.plan(data, launch="torchrun", **dials)
    return Learner(small.encoder(folder, task, dropout=0.0), data, plan.how, "cpu", world, small.objective(data)), plan


def losses(world: World, task: str, folder: Path, dials: dict[str, Any]) -> list[float]:
    """Those of all steps, and that of an evaluation behind them."""
    learner, plan = learner_of(world, task, folder / str(world.rank), **dials)
    found = [float(step.loss) for step in loop.steps(learner, plan, loop.Progress())]
    return [*found, loop.evaluate(learner.forward, plan.shard, world)[0]]


def all_losses(world: World, folder: Path, *wanted: dict[str, Any]) -> list[list[float]]:
    """Those of each task with each of these dials."""
    return [losses(world, task, folder, dials) for task in TASKS for dials in wanted]


def off(found: list[float], expected: list[float]) -> float:
    return float(np.abs(np.subtract(found, expected)).max())


def test_twenty_steps_of_two_processes_have_the_losses_of_one(tmp_path: Path) -> None:
    """Batches of 16, 16 and 13 rows."""
    dials: dict[str, Any] = {"epochs": 7, "micro_batch": 5}
    both = groups.together(2, all_losses, tmp_path, *({**dials, "sharding": kind} for kind in KINDS))
    for place, task in enumerate(TASKS):
        one = losses(ALONE, task, tmp_path / "alone", dials)
        assert len(one) == 22
        assert one[0] > 2 * min(one)
        for found in both:
            assert [off(each, one) <= 1e-5 for each in found[2 * place : 2 * place + 2]] == [True, True]


def test_three_processes_share_batches_of_fewer_rows_than_they_are(tmp_path: Path) -> None:
    """Batches of 2 rows, the last of one; and of 22 and 1."""
    wanted = [{"epochs": 1, "batch": batch, "sharding": kind} for batch in (2, 22) for kind in KINDS]
    for found in groups.together(3, all_losses, tmp_path, *wanted):
        for task, ours in zip(TASKS, (found[:4], found[4:]), strict=True):
            for dials, each in zip(wanted, ours, strict=True):
                assert off(each, losses(ALONE, task, tmp_path / "alone", dials)) <= 1e-5


def losses_of_heads(world: World, *wanted: tuple[str, str]) -> list[list[float]]:
    """Those of two epochs, and of an evaluation behind them."""
    found = []
    for name, kind in wanted:
        head, shard = test_heads.HEADS[name], test_heads.HEADS[name].rows()
        how = small.plan(launch="torchrun", sharding=kind, epochs=2, learning_rate=1e-3, micro_batch=5).how
        learner = Learner(head.built(), shard, how, "cpu", world, head.objective, **head.how)
        plan = loop.Plan(shard, how, **head.how)
        taken = [float(step.loss) for step in loop.steps(learner, plan, loop.Progress())]
        found.append([*taken, loop.evaluate(learner.forward, shard, world, head.objective)[0]])
    return found


def test_two_processes_make_of_language_models_what_one_makes() -> None:
    wanted = [("bert", "none"), ("t5", "none"), ("llama", "none"), ("llama", "full")]
    one = losses_of_heads(ALONE, *wanted)
    for found in groups.together(2, losses_of_heads, *wanted):
        assert [off(each, expected) <= 1e-5 for each, expected in zip(found, one, strict=True)] == [True] * 4


def cramp(learner: Learner, where: str, visits: Container[int]) -> None:
    """Lets memory not suffice when the middle layer is come to, forward or backward, for these times."""
    come = itertools.count(1)

    def visit(*_: Any) -> None:
        if next(come) in visits:
            raise torch.OutOfMemoryError("CUDA out of memory")

    layer = learner.model.bert.encoder.layer[1]
    if where == "forward":
        layer.register_forward_pre_hook(visit)
    else:
        layer.register_forward_hook(lambda _, _given, states: states.register_hook(visit) and None)


def cramped(world: World, kind: str, where: str, visits: Container[int], again: bool) -> tuple[Any, int]:
    """Losses of a BERT, or the error that ends it, and how often parts were halved; the last process is cramped."""
    how = {"launch": "torchrun", "sharding": kind, "recompute": again, "learning_rate": 1e-3, "micro_batch": 4}
    plan, progress = small.plan(epochs=2, **how), loop.Progress()
    learner = Learner(families.built("bert"), plan.shard, plan.how, "cpu", world)
    if world.rank == world.size - 1:
        cramp(learner, where, visits)
    try:
        return [float(step.loss) for step in loop.steps(learner, plan, progress)], progress.halvings
    except RuntimeError as error:
        return type(error).__name__, progress.halvings


def all_cramped(world: World, *wanted: tuple[Any, ...]) -> list[tuple[Any, int]]:
    return [cramped(world, *each) for each in wanted]


def test_memory_that_is_short_in_one_of_two_processes_changes_no_loss() -> None:
    """It is short in the second part of the second step, and again in the first part of the next try."""
    one, halvings = cramped(ALONE, "none", "forward", (), False)
    assert halvings == 0
    wanted = [(kind, where, (4, 5), again) for kind in KINDS for where in WAYS for again in (False, True)]
    for found in groups.together(2, all_cramped, *wanted):
        assert [halvings for _, halvings in found] == [2] * len(wanted)
        assert [off(each, one) <= 1e-5 for each, _ in found] == [True] * len(wanted)


def test_a_row_that_does_not_fit_into_one_process_ends_all() -> None:
    wanted = [(kind, where, range(100), False) for kind in KINDS for where in WAYS]
    first, second = groups.together(2, all_cramped, *wanted)
    assert first == [("Short", 2)] * 4
    assert second == [("OutOfMemoryError", 2)] * 4


@pytest.mark.parametrize("size", [2, 3])
def test_shares_of_a_batch_are_the_batch(size: int) -> None:
    draw = np.random.default_rng(0)
    for rows in range(1, 9):
        batch, lengths = draw.permutation(rows), draw.integers(1, 30, rows)
        shares = World(size=size).shares(batch, lengths)
        assert len(shares) == size
        assert sorted(np.concatenate(shares)) == list(range(rows))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1
