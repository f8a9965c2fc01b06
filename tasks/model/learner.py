"""A model that learns: how it is computed, which of its parameters learn, and how a step changes them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from tasks.data import batches
from tasks.data.corruption import Corruption
from tasks.data.shards import Shard
from tasks.errors import BadInput
from tasks.model import dropout, hardware, sharding, vocabulary
from tasks.model.forward import Forward, probe
from tasks.model.losses import LOSSES
from tasks.model.prefix import Layers, Prefix
from tasks.model.world import ALONE, World
from tasks.problems.contract import PLAIN, Objective
from tasks.recipe import Train

MOMENTUM = 0.9  # of gradient descent
ROUNDING = 1e-6  # that PyTorch's clip_grad_norm_ adds to a norm as well, so that what was clipped is no longer


class Learner:
    """A model with its optimizer, which lets biases and norms not decay.

    Args:
        shard: the rows that it will learn from; embeddings of tokens that do not occur there need no update.
        objective: what its head answers, and the loss it learns by.
        corruption: of the rows, for a masked language model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        shard: Shard,
        how: Train,
        device: str = "cpu",
        world: World = ALONE,
        objective: Objective = PLAIN,
        corruption: Corruption | None = None,
    ) -> None:
        self.how, self.device, self.world, self.objective = how, device, world, objective
        shares = how.sharding == "full" and world.size > 1
        before = "cpu" if shares else device  # where it stands until no process has to keep all of it
        model = model.to(before).train()  # type: ignore[arg-type]
        self.layers = None if how.top_layers is None else Layers(model, how.top_layers)
        still = self.layers.freeze(model) if self.layers else []
        self.forward = Forward(
            model, before, hardware.precision(how, device), reads=objective.reads, corruption=corruption
        )
        if how.recompute:
            recompute(model)
        self.forward.still = still
        self.forward.train()
        tokens = [shard.tokens] if shard.target is None else [shard.tokens, shard.target.tokens]
        every = corruption or not how.decoupled  # rows hold any token; decay reaches every row
        self.table = None if every else vocabulary.narrow(model, *tokens)
        if device == "cpu":
            dropout.quicken(model)
        if shares:
            share_out(self.forward, world)
        learns = [each for each in model.parameters() if each.requires_grad]
        groups = [
            {"params": [each for each in learns if each.dim() > 1], "weight_decay": how.weight_decay},
            {"params": [each for each in learns if each.dim() <= 1], "weight_decay": 0.0},
        ]
        self.learns = learns
        self.optimizer = optimizer(how, groups)
        self.optimizer.found_inf = torch.zeros((), device=device)  # type: ignore[attr-defined]

    @property
    def model(self) -> PreTrainedModel:
        return self.forward.model

    @property
    def says(self) -> str:
        """How it computes, for people."""
        shared = f", {self.world.size} processes" if self.world.size > 1 else ""
        return f"{self.forward.way} in {self.forward.precision} on {self.device}{shared}{', sharded' * self.sharded}"

    @property
    def decayed(self) -> float:
        """What weight decay has left of embeddings that do not learn."""
        return self.table.decayed if self.table else 1.0

    @decayed.setter
    def decayed(self, share: float) -> None:
        if self.table:
            self.table.decayed = share

    @property
    def sharded(self) -> bool:
        """Whether other processes are needed to have the whole model."""
        return sharding.sharded(self.model)

    def keep(self, shards: Sequence[Shard], folder: Path) -> None:
        """Computes what the frozen layers make of these shards once, if there are such layers and rows are packed.

        Rows that are corrupted anew in every epoch are computed in every epoch.
        """
        if self.layers and self.forward.packs and not self.forward.corruption:
            self.forward.prefix = Prefix(self.forward, self.layers, shards, folder)

    def loss(self, batch: batches.Batch, labels: int) -> torch.Tensor:
        """The loss of a part of a step that has `labels` labels in all: its share of their mean."""
        total = LOSSES[self.objective.loss](self.forward(batch), batch, self.how.label_smoothing)
        return total / max(1, labels)

    @property
    def gradients(self) -> list[torch.Tensor]:
        return [each.grad for each in self.learns if each.grad is not None]

    def add(self, loss: torch.Tensor) -> None:
        """Makes the loss of a step, and its gradient, the sums over all processes."""
        self.world.add([loss] if self.sharded else [loss, *self.gradients])

    def update(self, rate: float) -> torch.Tensor:
        """Changes the parameters by their gradients, clipped; the norm of the gradients before clipping."""
        norm = sharding.whole(torch.nn.utils.get_total_norm(self.gradients))
        # the fused step divides by it on its way, as GradScaler has it do: no pass over all gradients to clip them
        self.optimizer.grad_scale = ((norm + ROUNDING) / self.how.clip).clamp(min=1.0)  # type: ignore[attr-defined]
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.decayed *= 1 - rate * self.how.weight_decay  # of AdamW; of the others there is no decay, or no table
        return norm

    def forget(self) -> None:
        """Drops the gradients of a step that could not be computed."""
        sharding.abandon(self.model)
        self.optimizer.zero_grad()
        if self.device == "cuda":
            torch.cuda.empty_cache()

    def release(self) -> PreTrainedModel:
        """The stock model, with all that was learned."""
        model = self.forward.release()
        vocabulary.widen(model)
        if self.how.recompute:
            model.activation_checkpointing_disable()  # type: ignore[no-untyped-call]
        dropout.quicken(model, torch.nn.Dropout)
        return model


def optimizer(how: Train, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2019), Adam (Kingma and Ba 2015) or gradient descent with momentum (Polyak 1964)."""
    if how.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=how.learning_rate, momentum=MOMENTUM, fused=True)
    kind = torch.optim.AdamW if how.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr=how.learning_rate, fused=True)


def share_out(forward: Forward, world: World) -> None:
    """Lets each process of the world keep a share of the model.

    Raises:
        BadInput: E-SHARDING, it cannot be cut into shares.
    """
    try:
        sharding.share_out(forward.model, world)
        forward.device = world.device
        with forward.examined():
            forward(probe(forward.model, forward.reads))
    except ValueError as error:
        kind = forward.model.config.model_type
        raise BadInput(
            "E-SHARDING", f"train.sharding full: a {kind} cannot be shared out: {error}; remove it"
        ) from error


def recompute(model: PreTrainedModel) -> None:
    """Lets layers keep only what came in, and be computed again in the backward pass (Chen et al. 2016).

    Raises:
        BadInput: E-RECOMPUTE, the model cannot.
    """
    if not model.supports_gradient_checkpointing:
        kind = model.config.model_type
        raise BadInput("E-RECOMPUTE", f"train.recompute: {kind} cannot compute its layers again; remove it")
    model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
