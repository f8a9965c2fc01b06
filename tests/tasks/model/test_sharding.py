"""A model that is shared out: each process holds its share, and what is kept of it knows no world."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import BertForSequenceClassification

from infra.storage import Store, open_store
from tasks.errors import BadInput
from tasks.model import loop, sharding
from tasks.model.checkpoints import Checkpoints
from tasks.model.learner import Learner
from tasks.model.world import ALONE, World
from tests.tasks.model import families, groups, small

DIALS: dict[str, Any] = {"launch": "torchrun", "learning_rate": 1e-3}


def store_at(folder: Path) -> Store:
    return open_store(str(folder / "store"), folder / "cache", "")


def learner_of(world: World, **dials: Any) -> tuple[Learner, loop.Plan]:
    plan = small.plan(**{**DIALS, **dials})
    return Learner(families.built("bert"), plan.shard, plan.how, "cpu", world), plan


def trained(
    world: World, folder: Path, kind: str, restored: str, saved: str, until: int, dials: dict[str, Any]
) -> list[float]:
    """Losses from the checkpoint named `restored` to step `until`, whose checkpoint is then written."""
    room = folder / f"room-{world.rank}"
    room.mkdir(exist_ok=True)
    learner, plan = learner_of(world, sharding=kind, **dials)
    learner.keep((plan.shard,), room)
    progress = Checkpoints(store_at(folder).within(restored), room).restore(learner)
    taken = loop.steps(learner, plan, progress)
    found = [float(next(taken).loss) for _ in range(progress.step, until)]
    checkpoints = Checkpoints(store_at(folder).within(saved), room)
    checkpoints.save(learner, progress)
    checkpoints.wait()
    return found


def all_trained(world: World, folder: Path, *wanted: tuple[Any, ...]) -> list[list[float]]:
    return [trained(world, folder, *each) for each in wanted]


def digests(folder: Path, name: str) -> dict[str, str]:
    """Of weights and optimizer in the only checkpoint of that name."""
    store = store_at(folder).within(name)
    (key,) = store.manifests()
    files = (store.read_manifest(key) or {})["files"]
    return {each: files[each] for each in ("model", "optimizer")}


@pytest.mark.parametrize("dials", [{}, {"top_layers": 1}])
def test_a_checkpoint_of_one_world_is_gone_on_from_in_another(tmp_path: Path, dials: dict[str, Any]) -> None:
    """Three steps in one world, then from 3 to 6 in another; a world that only hands on changes no bit."""
    (one,) = all_trained(ALONE, tmp_path, ("none", "nothing", "one", 3, dials))
    wanted = [
        ("full", "nothing", "full", 3, dials),
        ("none", "nothing", "none", 3, dials),
        ("full", "one", "one-handed-on", 3, dials),
        ("full", "one", "one-to-full", 6, dials),
        ("none", "full", "full-handed-on", 3, dials),
        ("none", "full", "full-to-none", 6, dials),
        ("full", "none", "none-to-full", 6, dials),
        ("full", "full", "full-to-full", 6, dials),
        ("full", "nothing", "full-undisturbed", 6, dials),
    ]
    first, _ = groups.together(2, all_trained, tmp_path, *wanted)
    (whole,) = all_trained(ALONE, tmp_path, ("none", "nothing", "undisturbed", 6, dials))
    (back,) = all_trained(ALONE, tmp_path, ("none", "full", "full-to-one", 6, dials))
    for found in (one + back, first[0] + first[5], first[1] + first[6], one + first[3], first[0] + first[7], first[8]):
        assert np.abs(np.subtract(found, whole)).max() <= 1e-5
    assert digests(tmp_path, "one-handed-on") == digests(tmp_path, "one")
    assert digests(tmp_path, "full-handed-on") == digests(tmp_path, "full")
    assert digests(tmp_path, "full-to-full") == digests(tmp_path, "full-undisturbed")
    assert len({str(digests(tmp_path, name)) for name in ("one", "full", "undisturbed")}) == 3


def held(world: World, kind: str) -> tuple[int, int]:
    """Bytes of weights and of moments that a process holds behind a step, and of gradients within it."""
    learner, plan = learner_of(world, sharding=kind)
    gradients: list[int] = []
    learner.optimizer.register_step_post_hook(lambda *_: gradients.append(sum(map(bytes_of, learner.gradients))))
    next(loop.steps(learner, plan, loop.Progress()))
    moments = [each for kept in learner.optimizer.state.values() for each in kept.values()]
    return sum(map(bytes_of, [*learner.model.parameters(), *moments])), gradients[0]


def bytes_of(tensor: torch.Tensor) -> int:
    return (tensor.to_local() if isinstance(tensor, sharding.DTensor) else tensor).nbytes


def all_held(world: World) -> list[tuple[int, int]]:
    return [held(world, kind) for kind in ("none", "full")]


def test_two_processes_hold_half_and_three_hold_a_third_of_weights_gradients_and_moments() -> None:
    for size in (2, 3):
        for whole, shares in groups.together(size, all_held):
            assert whole[0] > 1_500_000
            for all_of_it, ours in zip(whole, shares, strict=True):
                assert ours < all_of_it / size * 1.05  # a bias of 5 numbers is not dealt evenly


class Scaled(BertForSequenceClassification):
    """A BERT whose logits are scaled by a number."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.scale = nn.Parameter(torch.ones(()))
        self.classifier.register_forward_hook(lambda _, _given, logits: logits * self.scale)


def tied() -> BertForSequenceClassification:
    """A BERT of which two layers have a weight in common."""
    model = families.built("bert")
    layers = model.bert.encoder.layer
    layers[2].output.dense.weight = layers[0].output.dense.weight
    return model


def refused(world: World) -> list[tuple[str, str]]:
    plan, found = small.plan(**DIALS, sharding="full"), []
    for model in (Scaled(families.built("bert").config), tied()):
        with pytest.raises(BadInput) as met:
            Learner(model, plan.shard, plan.how, "cpu", world)
        found.append((met.value.code, met.value.message))
    return found


def test_a_model_that_cannot_be_shared_out_is_refused() -> None:
    for (one, scalar), (other, common) in groups.together(2, refused):
        assert (one, other) == ("E-SHARDING", "E-SHARDING")
        assert "scalar parameters" in scalar
        assert "shared with a parameter" in common


def test_a_world_of_one_keeps_the_whole_model() -> None:
    learner, _ = learner_of(ALONE, sharding="full")
    assert not learner.sharded
