"""Training of the top layers: what lies below does not learn, and is computed once a row instead of once an epoch.

A frozen layer works as it will in use, without dropout, so what it makes of a row never changes: the states that enter
the first layer that learns are kept, 4 bytes x width x tokens (250 MB for banking77 on MiniLM), and read back in every
epoch. They belong to one run and die with it; a restarted one computes them again, to the same bits.
"""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from tasks.data import batches
from tasks.data.shards import Shard
from tasks.errors import BadInput
from tasks.model import attention, hardware, sharding
from tasks.model.forward import Forward, given, probe
from tasks.model.packing import Pack

log = logging.getLogger("vernal.prefix")


class Layers:
    """The layers of a model, of which the upper `learning` learn together with what comes after them.

    Raises:
        BadInput: E-LAYERS, the model has fewer, or they are not a stack of their own.
    """

    def __init__(self, model: PreTrainedModel, learning: int) -> None:
        self.stack: nn.Module = model.base_model
        lists = {name: each for name, each in self.stack.named_modules() if isinstance(each, nn.ModuleList)}
        self.name = max(lists, key=lambda name: len(lists[name]), default="")
        if model.config.is_encoder_decoder or not lists or len(lists[self.name]) != model.config.num_hidden_layers:
            kind = model.config.model_type
            raise BadInput(
                "E-LAYERS", f"train.top_layers {learning}: a {kind} is no single stack of layers; remove top_layers"
            )
        self.all: nn.ModuleList = lists[self.name]
        if learning > len(self.all):
            raise BadInput("E-LAYERS", f"train.top_layers {learning} > {len(self.all)}, the layers of the base")
        self.learning = learning

    @property
    def first(self) -> nn.Module | None:
        """The lowest layer that learns; None: no layer does."""
        return self.all[len(self.all) - self.learning] if self.learning else None

    @property
    def behind(self) -> nn.Module:
        """What ends with the states that the head reads; a pooler comes after it."""
        return attention.before_pooler(self.stack)

    def freeze(self, model: PreTrainedModel) -> list[nn.Module]:
        """Stops from learning what ends before the first layer that learns begins; the parts that stand still.

        Raises:
            BadInput: E-LAYERS, nothing is left that learns.
        """
        still: list[nn.Module] = []
        passed = False

        def note(module: nn.Module, *_: Any) -> None:
            if not passed and module not in still:
                still.append(module)

        def reach(*_: Any) -> None:
            nonlocal passed
            passed = True

        ends = self.first.register_forward_pre_hook(reach) if self.first else self.behind.register_forward_hook(reach)
        handles = [each.register_forward_hook(note) for each in self.stack.modules()]
        with torch.no_grad():
            model(**given(model, probe(model), model.device.type))
        for handle in (ends, *handles):
            handle.remove()
        for part in still:
            part.requires_grad_(False)
        if not any(each.requires_grad for each in model.parameters()):
            kind = model.config.model_type
            raise BadInput("E-LAYERS", f"train.top_layers {self.learning}: the head of this {kind} is its embedding")
        return still

    def cut(self) -> None:
        """Takes the frozen layers out of the model."""
        self._put(nn.ModuleList(list(self.all)[len(self.all) - self.learning :]))

    def restore(self) -> None:
        """Puts them back."""
        self._put(self.all)

    def _put(self, layers: nn.ModuleList) -> None:
        parent, _, name = self.name.rpartition(".")
        setattr(self.stack.get_submodule(parent), name, layers)


@dataclass(frozen=True)
class Kept:
    """States of the rows of a shard: those of row i are states[offsets[i]:offsets[i + 1]]."""

    states: npt.NDArray[np.float32]  # (tokens, width), or (sequences, width) where the head reads one position
    offsets: npt.NDArray[np.int64]

    def of(self, rows: batches.Rows) -> npt.NDArray[np.float32]:
        """(tokens, width), row after row."""
        return self.states[batches.tokens_of(self.offsets, rows)]


class Prefix:
    """The kept states of some shards, and a model that goes on from them.

    Args:
        folder: where states are laid that would take more than an eighth of the memory.
    """

    def __init__(self, forward: Forward, layers: Layers, shards: Iterable[Shard], folder: Path) -> None:
        self.layers = layers
        self.single = not layers.learning and forward.way != "packed"  # one state a row is all that a head will read
        self.kept: dict[int, Kept] = {}
        for number, shard in enumerate(shards):
            with _captured(layers) as captured:
                self.kept[id(shard)] = self._compute(forward, shard, captured, folder / f"{number}.states")
        layers.cut()
        goes_on = (
            layers.first.register_forward_pre_hook(_enter, with_kwargs=True, prepend=True)
            if layers.first
            else layers.behind.register_forward_hook(_leave, with_kwargs=True, prepend=True)
        )
        self.handles = [goes_on]

    def of(self, shard: Shard, rows: batches.Rows) -> npt.NDArray[np.float32] | None:
        """The kept states of rows of a shard, if it is one of those."""
        kept = self.kept.get(id(shard))
        return kept.of(rows) if kept else None

    def release(self) -> None:
        """Makes the model whole again."""
        for handle in self.handles:
            handle.remove()
        self.layers.restore()

    def _compute(self, forward: Forward, shard: Shard, captured: list[torch.Tensor], file: Path) -> Kept:
        offsets = shard.bounds
        if self.single:
            offsets = np.arange(len(shard) + 1) if shard.groups is None else shard.groups
        found: npt.NDArray[np.float32] | None = None
        with forward.examined():
            for rows in forward.at_once(shard.lengths):
                try:
                    forward(forward.batch(shard, rows))
                except _Reached:
                    sharding.abandon(forward.model)
                states = captured.pop()[0]
                if found is None:
                    found = _room((int(offsets[-1]), states.shape[-1]), file)
                found[batches.tokens_of(offsets, rows)] = states.float().cpu()
        assert found is not None
        log.info("%.0f MB of states below the layers that learn, computed once", found.nbytes / 1e6)
        return Kept(found, offsets)


class _Reached(Exception):
    """The first layer that learns was reached: nothing above it needs to be computed."""


@contextmanager
def _captured(layers: Layers) -> Iterator[list[torch.Tensor]]:
    """The states that come to the first layer that learns, or to the head; nothing is computed beyond."""
    found: list[torch.Tensor] = []

    def enter(_: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
        found.append(given[0])
        raise _Reached

    def leave(_: nn.Module, _given: tuple[Any, ...], out: Any) -> None:
        found.append(out["last_hidden_state"])
        raise _Reached

    first = layers.first
    handle = (
        first.register_forward_pre_hook(enter, prepend=True)
        if first
        else layers.behind.register_forward_hook(leave, prepend=True)
    )
    try:
        yield found
    finally:
        handle.remove()


def _enter(_: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    packed: Pack = named["packed"]
    return given if packed.kept is None else (packed.kept, *given[1:]), named


def _leave(_: nn.Module, _given: tuple[Any, ...], named: dict[str, Any], out: Any) -> Any:
    packed: Pack = named["packed"]
    if packed.kept is not None:
        out["last_hidden_state"] = packed.kept
    return out


def _room(shape: tuple[int, int], file: Path) -> npt.NDArray[np.float32]:
    if 4 * shape[0] * shape[1] <= hardware.memory() / 8:
        return np.empty(shape, np.float32)
    return np.memmap(file, np.float32, mode="w+", shape=shape)
