"""Checkpoints of a run: what is needed to go on after a kill, manifest last, newest verified one first.

Each run has a private store, so that old bytes can be deleted without asking who else uses them. Two checkpoints are
kept, and the older goes only when its successor has been written; a damaged one is passed over with a warning and the
one before is taken. Weights and optimizer are safetensors, the rest is JSON: nothing is ever unpickled.
"""

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from infra.storage import Store
from tasks.errors import Corrupt, Missing
from tasks.model.learner import Learner
from tasks.model.loop import Progress

KEPT = 2

log = logging.getLogger("vernal.checkpoints")


class Checkpoints:
    """The checkpoints of one run in its own part of the store."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.best: str | None = None  # digest of the weights of the best step

    def save_best(self, learner: Learner, folder: Path) -> None:
        """Keeps the weights as those of the best step; the next `save` names them."""
        self.best = self.store.put(_weights(learner.model, folder / "best.safetensors")).digest

    def save(self, learner: Learner, progress: Progress, folder: Path) -> None:
        """Writes a checkpoint of this step through files in `folder`, then forgets all but the newest two."""
        files = {"model": self.store.put(_weights(learner.model, folder / "model.safetensors")).digest}
        files["optimizer"] = self.store.put(_moments(learner.optimizer, folder / "optimizer.safetensors")).digest
        if self.best:
            files["best"] = self.best
        state = dataclasses.asdict(progress)
        files["history"] = self.store.put(json.dumps(state.pop("history")).encode()).digest
        self.store.write_manifest(f"{progress.step:010d}", {"files": files, "progress": state})
        self._forget()

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
        if self.best:
            _load(self.store.open(self.best), learner.model)

    def clear(self) -> None:
        """Forgets everything, also what a kill left unnamed: the run is finished and its result committed."""
        for key in list(self.store.manifests()):
            self.store.delete_manifest(key)
        for digest in list(self.store.digests()):
            self.store.delete(digest)

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


def _weights(model: PreTrainedModel, path: Path) -> Path:
    # tied tensors share memory, which safetensors refuses: the first name of each is written
    seen: set[tuple[int, torch.Size]] = set()
    tensors = {}
    for name, tensor in model.state_dict().items():
        place = (tensor.data_ptr(), tensor.shape)
        if place not in seen:
            seen.add(place)
            tensors[name] = tensor.detach().cpu().contiguous()
    save_file(tensors, path)
    return path


def _load(path: Path, model: PreTrainedModel) -> None:
    model.load_state_dict(_tied(load_file(path), model))


def _tied(tensors: dict[str, torch.Tensor], model: PreTrainedModel) -> dict[str, torch.Tensor]:
    names: dict[tuple[int, torch.Size], str] = {}
    whole = {}
    for name, tensor in model.state_dict().items():
        first = names.setdefault((tensor.data_ptr(), tensor.shape), name)
        whole[name] = tensors[first]
    return whole


def _moments(optimizer: torch.optim.Optimizer, path: Path) -> Path:
    state = optimizer.state_dict()["state"]
    slots = [(f"{number}.{name}", value) for number, kept in state.items() for name, value in kept.items()]
    save_file({name: value.cpu().contiguous() for name, value in slots}, path)
    return path


def _restore_moments(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, slot = name.partition(".")
        state.setdefault(int(number), {})[slot] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
