"""Checkpoints of a run: what is needed to go on after a kill, manifest last, newest verified one first.

Each run has a private store, so that old bytes can be deleted without asking who else uses them. Two checkpoints are
kept, and the older goes only when its successor has been written; a damaged one is passed over with a warning and the
one before is taken. Weights and optimizer are safetensors, the rest is JSON: nothing is ever unpickled.

A step waits for the copy of its tensors only; a thread hashes and writes them while training goes on, and never falls
behind by more than one checkpoint.
"""

import dataclasses
import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from infra.storage import Store
from tasks.errors import Corrupt, Missing
from tasks.model import sharding
from tasks.model.learner import Learner
from tasks.model.loop import Progress

KEPT = 2

Tensors = dict[str, torch.Tensor]

log = logging.getLogger("vernal.checkpoints")


class Checkpoints:
    """The checkpoints of one run in its own part of the store.

    Args:
        room: an empty folder for files on their way to the store.
    """

    def __init__(self, store: Store, room: Path) -> None:
        self.store, self.room = store, room
        self.best: str | None = None  # digest of the weights of the best step
        self.writer = ThreadPoolExecutor(1, "checkpoint")
        self.writing: Future[None] | None = None
        self.seconds = 0.0  # that the last one took, beside the training

    def save(self, learner: Learner, progress: Progress) -> None:
        """Begins to write a checkpoint of this step; the one before is finished first.

        Processes that share a model out come here together, and the first of them writes.
        """
        self.wait()
        if not (learner.world.leads or learner.sharded):
            return
        model, moments = _weights(learner.model), _moments(learner.optimizer)
        if not learner.world.leads:
            return
        state = dataclasses.asdict(progress)
        history = json.dumps(state.pop("history")).encode()
        self.writing = self.writer.submit(self._write, model, moments, history, state)

    def wait(self) -> None:
        """Returns when what was begun is in the store, or raises what prevented it."""
        if self.writing:
            self.writing.result()
            self.writing = None

    def _write(self, model: Tensors, moments: Tensors, history: bytes, state: dict[str, Any]) -> None:
        began = time.monotonic()
        files = {name: self._put(name, tensors) for name, tensors in (("model", model), ("optimizer", moments))}
        if state["best_step"] == state["step"]:
            self.best = files["model"]
        if self.best:
            files["best"] = self.best
        files["history"] = self.store.put(history).digest
        self.store.write_manifest(f"{state['step']:010d}", {"files": files, "progress": state})
        self._forget()
        self.seconds = time.monotonic() - began

    def _put(self, name: str, tensors: Tensors) -> str:
        path = self.room / f"{name}.safetensors"
        save_file(tensors, path)
        digest = self.store.put(path).digest
        path.unlink()
        return digest

    def restore(self, learner: Learner) -> Progress:
        """Brings the learner to the newest checkpoint that verifies; an empty Progress if there is none."""
        for key, manifest in self._newest_first():
            try:
                files = {name: self.store.open(digest) for name, digest in manifest["files"].items()}
            except (Corrupt, Missing) as error:
                log.warning("W-CKPT step %d is damaged and passed over: %s", int(key), error)
                self.store.delete_manifest(key)
                continue
            _load(files["model"], learner.model)
            _restore_moments(learner.optimizer, load_file(files["optimizer"]))
            self.best = manifest["files"].get("best")
            return Progress(**manifest["progress"], history=json.loads(files["history"].read_bytes()))
        return Progress()

    def load_best(self, learner: Learner) -> None:
        """Brings the weights to the best step that was kept."""
        self.wait()
        if self.best:
            _load(self.store.open(self.best), learner.model)

    def _forget(self) -> None:
        keys = list(self.store.manifests())
        kept = {digest for key in keys[-KEPT:] for digest in self._files(key)}
        for key in keys[:-KEPT]:
            unused = set(self._files(key)) - kept
            self.store.delete_manifest(key)
            for digest in unused:
                self.store.delete(digest)

    def _newest_first(self) -> Iterator[tuple[str, dict[str, Any]]]:
        for key in sorted(self.store.manifests(), reverse=True):
            try:
                manifest = self.store.read_manifest(key)
            except Corrupt as error:
                log.warning("W-CKPT step %d is damaged and passed over: %s", int(key), error)
                self.store.delete_manifest(key)
                continue
            if manifest is not None:
                yield key, manifest

    def _files(self, key: str) -> list[str]:
        try:
            return list((self.store.read_manifest(key) or {"files": {}})["files"].values())
        except Corrupt:
            return []


def clear(store: Store) -> None:
    """Forgets everything, also what a kill left unnamed: the run is finished and its result committed."""
    for key in list(store.manifests()):
        store.delete_manifest(key)
    for digest in list(store.digests()):
        store.delete(digest)


def _weights(model: PreTrainedModel) -> Tensors:
    # a tied tensor has several names, of which the first is written
    seen: set[int] = set()
    tensors = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            tensors[name] = _copy(tensor)
    return tensors


def _load(path: Path, model: PreTrainedModel) -> None:
    model.load_state_dict(_tied(load_file(path), model))


def _tied(tensors: Tensors, model: PreTrainedModel) -> Tensors:
    names: dict[int, str] = {}
    found = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        first = names.setdefault(id(tensor), name)
        found[name] = sharding.share(tensors[first], tensor)
    return found


def _moments(optimizer: torch.optim.Optimizer) -> Tensors:
    state = optimizer.state_dict()["state"]
    return {f"{number}.{name}": _copy(value) for number, kept in state.items() for name, value in kept.items()}


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    return sharding.whole(tensor.detach()).to("cpu", copy=True).contiguous()


def _restore_moments(optimizer: torch.optim.Optimizer, tensors: Tensors) -> None:
    learns = [each for group in optimizer.param_groups for each in group["params"]]
    state: dict[int, Tensors] = {}
    for name, tensor in tensors.items():
        number, _, slot = name.partition(".")
        state.setdefault(int(number), {})[slot] = sharding.share(tensor, learns[int(number)])
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
