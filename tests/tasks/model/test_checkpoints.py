"""Checkpoints: whoever goes on from one ends with the same bytes, a damaged one costs the way from the one before."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel

from infra.storage import Store, open_store
from tasks.errors import Interrupted
from tasks.model import loop, screen
from tasks.model.checkpoints import KEPT, Checkpoints, clear
from tasks.model.curves import Curves
from tasks.model.session import Session, Watch
from tests.tasks.model import small

Fresh = Callable[[], PreTrainedModel]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"), tmp_path / "cache", "")


@pytest.fixture
def room(tmp_path: Path) -> Path:
    (tmp_path / "room").mkdir()
    return tmp_path / "room"


@pytest.fixture
def fresh(tmp_path: Path) -> Fresh:
    return lambda: small.encoder(tmp_path / "encoder")


@dataclass
class Start:
    """A process that trains, as far as these tests go: it knows nothing but the store."""

    store: Store
    room: Path
    model: PreTrainedModel
    plan: loop.Plan

    def __post_init__(self) -> None:
        self.learner = small.learner(self.model, self.plan)
        self.checkpoints = Checkpoints(self.store, self.room)
        self.progress = self.checkpoints.restore(self.learner)

    def go(self, until: int | None = None, saving: bool = True) -> "Start":
        """Takes steps up to `until`, or to the end."""
        for step in loop.steps(self.learner, self.plan, self.progress):
            self.progress.history.append({"step": step.number, "loss": float(step.loss)})
            if saving:
                self.checkpoints.save(self.learner, self.progress)
            if step.number == until:
                break
        self.checkpoints.wait()
        return self

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return small.weights(self.model)


def blobs(store: Store) -> set[str]:
    return set(store.digests())


def named(store: Store) -> set[str]:
    """Digests that the manifests there name."""
    return {digest for key in store.manifests() for digest in (store.read_manifest(key) or {})["files"].values()}


def path_of(store: Store, step: int, name: str) -> Path:
    """The stored file of a checkpoint; the manifest itself under the name `manifest`."""
    if name == "manifest":
        return Path(store.uri, "manifests", f"{step:010d}.json")
    digest = (store.read_manifest(f"{step:010d}") or {})["files"][name].removeprefix("sha256:")
    return Path(store.uri, "blobs", digest[:2], digest)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.chmod(0o644)
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("body", "precision", "micro_batch"),
    [("encoder", "fp32", None), ("encoder", "bf16", 5), ("bert", "fp32", 5), ("bert", "bf16", None)],
)
def test_a_run_interrupted_at_any_step_ends_with_the_same_bits(
    store: Store, room: Path, tmp_path: Path, body: str, precision: str, micro_batch: int | None
) -> None:
    plan = small.plan(precision=precision, micro_batch=micro_batch)

    def start(where: str) -> Start:
        model = small.encoder(tmp_path / "encoder") if body == "encoder" else small.bert()
        return Start(store.within(where), room, model, plan)

    whole = start("whole").go(saving=False)
    assert not small.same(whole.weights, small.weights(start("nothing").model))
    for step in (3, 4, 9):  # at an epoch's end, within one, and at the very end
        start(f"at-{step}").go(until=step)
        resumed = start(f"at-{step}")
        assert resumed.progress.step == step
        resumed.go(saving=False)
        assert small.same(resumed.weights, whole.weights)
        assert resumed.progress == whole.progress


def test_a_run_interrupted_after_each_step_ends_with_the_same_bits(store: Store, room: Path, fresh: Fresh) -> None:
    whole = Start(store.within("whole"), room, fresh(), small.plan()).go(saving=False)
    for step in range(1, 10):
        last = Start(store.within("pieces"), room, fresh(), small.plan()).go(until=step)
    assert small.same(last.weights, whole.weights)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_the_optimizer_comes_back_to_the_bit(store: Store, room: Path, fresh: Fresh, optimizer: str) -> None:
    plan = small.plan(optimizer=optimizer)
    whole = Start(store.within("whole"), room, fresh(), plan).go(saving=False)
    before = Start(store, room, fresh(), plan).go(until=4).learner.optimizer.state_dict()["state"]
    resumed = Start(store, room, fresh(), plan)
    after = resumed.learner.optimizer.state_dict()["state"]
    assert before.keys() == after.keys()
    for number, slots in before.items():
        moments = {"momentum_buffer"} if optimizer == "sgd" else {"step", "exp_avg", "exp_avg_sq"}
        assert slots.keys() == after[number].keys() == moments
        assert all(torch.equal(value, after[number][name]) for name, value in slots.items())
    assert small.same(resumed.go(saving=False).weights, whole.weights)


def test_without_a_checkpoint_a_run_starts_from_nothing(store: Store, room: Path, fresh: Fresh) -> None:
    start = Start(store, room, fresh(), small.plan())
    assert start.progress == loop.Progress()
    assert small.same(start.weights, small.weights(fresh()))


def test_weights_that_are_tied_are_kept_once_and_stay_tied(store: Store, room: Path) -> None:
    def masked(seed: int) -> BertForMaskedLM:
        torch.manual_seed(seed)
        sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
        return BertForMaskedLM(BertConfig(num_hidden_layers=1, **sizes))

    saved, other = masked(1), masked(2)
    plan = small.plan()
    checkpoints = Checkpoints(store, room)
    checkpoints.save(small.learner(saved, plan), loop.Progress(step=1))
    checkpoints.wait()
    Checkpoints(store, room).restore(small.learner(other, plan))
    assert small.same(small.weights(other), small.weights(saved))
    assert other.get_output_embeddings().weight is other.get_input_embeddings().weight


def test_the_newest_two_are_kept_with_their_files_and_nothing_else(store: Store, room: Path, fresh: Fresh) -> None:
    assert KEPT == 2
    Start(store, room, fresh(), small.plan()).go(until=5)
    assert list(store.manifests()) == ["0000000004", "0000000005"]
    assert blobs(store) == named(store)


def test_the_best_weights_outlive_the_checkpoint_that_first_named_them(store: Store, room: Path, fresh: Fresh) -> None:
    start = Start(store, room, fresh(), small.plan())
    start.progress.best_step = 1
    best = start.go(until=1).weights
    start.go()
    later = Start(store, room, fresh(), small.plan())
    later.checkpoints.load_best(later.learner)
    assert small.same(later.weights, best)
    assert not small.same(start.weights, best)


@pytest.mark.parametrize("name", ["model", "optimizer", "history", "manifest"])
@pytest.mark.parametrize("harm", [flip, truncate, Path.unlink])
def test_a_damaged_newest_checkpoint_is_passed_over_with_a_warning(
    store: Store,
    room: Path,
    fresh: Fresh,
    caplog: pytest.LogCaptureFixture,
    name: str,
    harm: Callable[[Path], None],
) -> None:
    whole = Start(store.within("whole"), room, fresh(), small.plan()).go(saving=False)
    there = store.within("harmed")
    Start(there, room, fresh(), small.plan()).go(until=5)
    harm(path_of(there, 5, name))
    with caplog.at_level(logging.WARNING):
        resumed = Start(there, room, fresh(), small.plan())
    assert resumed.progress.step == 4
    gone = name == "manifest" and harm is Path.unlink  # then nothing tells that there was one
    assert gone or "W-CKPT step 5 is damaged" in caplog.text
    resumed.go()
    assert small.same(resumed.weights, whole.weights)
    assert resumed.progress == whole.progress
    assert list(there.manifests()) == ["0000000008", "0000000009"]


def test_with_both_checkpoints_damaged_a_run_starts_again_and_ends_the_same(
    store: Store, room: Path, fresh: Fresh, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Start(store.within("whole"), room, fresh(), small.plan()).go(saving=False)
    Start(store, room, fresh(), small.plan()).go(until=5)
    for step in (4, 5):
        flip(path_of(store, step, "model"))
    again = Start(store, room, fresh(), small.plan())
    assert again.progress == loop.Progress()
    assert caplog.text.count("W-CKPT") == 2
    assert small.same(again.go().weights, whole.weights)


def test_a_checkpoint_of_before_the_kill_without_its_manifest_is_none(store: Store, room: Path, fresh: Fresh) -> None:
    start = Start(store, room, fresh(), small.plan()).go(until=3)
    store.put(json.dumps(start.progress.history).encode() + b" ")  # as a kill amid `save` leaves it
    assert Start(store, room, fresh(), small.plan()).progress.step == 3


def test_clearing_leaves_nothing_not_even_what_a_kill_left_unnamed(store: Store, room: Path, fresh: Fresh) -> None:
    Start(store, room, fresh(), small.plan()).go(until=3)
    store.put(b"weights of a step whose manifest was never written")
    other = store.within("another-run")
    Start(other, room, fresh(), small.plan()).go(until=1)
    clear(store)
    assert (list(store.manifests()), blobs(store)) == ([], set())
    assert list(other.manifests()) == ["0000000001"]


class Told(Watch):
    """A watch that is told its losses, and notes the weights that it saw."""

    def __init__(self, start: Start, losses: list[float]) -> None:
        super().__init__(start.learner.forward, start.plan.shard, small.LABELS, "text-classification", "loss")
        self.losses: Iterator[float] = iter(losses)
        self.seen: list[dict[str, torch.Tensor]] = []

    def scores(self) -> dict[str, float]:
        self.seen.append(small.weights(self.forward.model))
        return {"loss": next(self.losses)}


def train(start: Start, losses: list[float], caught: list[int] | None = None) -> Told:
    """A Session with these validation losses; stopped at its first step if a signal was caught."""
    watch = Told(start, losses)
    curves = Curves("small", "sha256:0")
    with screen.bar("training", start.plan.total) as bar:
        Session(start.learner, start.plan, start.progress, watch, start.checkpoints, curves, bar, caught or []).run()
    return watch


def test_early_stopping_ends_when_its_patience_is_spent_and_gives_the_best_step_back(
    store: Store, room: Path, fresh: Fresh
) -> None:
    plan = small.plan(epochs=9, early_stopping=2, metric="loss")
    start = Start(store, room, fresh(), plan)
    watch = train(start, [0.9, 0.5, 0.7, 0.6])
    assert (start.progress.step, start.progress.best_step, start.progress.best) == (12, 6, 0.5)
    start.checkpoints.load_best(start.learner)
    assert small.same(start.weights, watch.seen[1])
    assert not small.same(watch.seen[1], watch.seen[3])


def test_patience_and_the_best_step_outlive_an_interruption(store: Store, room: Path, fresh: Fresh) -> None:
    plan = small.plan(epochs=9, early_stopping=2, metric="loss")
    whole = Start(store.within("whole"), room, fresh(), plan)
    train(whole, [0.9, 0.5, 0.7, 0.6])
    whole.checkpoints.load_best(whole.learner)
    pieces = store.within("pieces")
    for losses in ([], [], [0.9], [], [], [0.5], [], [], [0.7], [], []):
        with pytest.raises(Interrupted) as stopped:
            train(Start(pieces, room, fresh(), plan), losses, caught=[15])
        assert stopped.value.exit_code == 143
    last = Start(pieces, room, fresh(), plan)
    assert (last.progress.step, last.progress.waited) == (11, 1)
    train(last, [0.6])
    last.checkpoints.load_best(last.learner)
    assert last.progress == whole.progress
    assert small.same(last.weights, whole.weights)
    done = Start(pieces, room, fresh(), plan)
    train(done, [])  # nothing is left to do
    assert done.progress == whole.progress
