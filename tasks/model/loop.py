"""The training loop: full fine-tuning, resumable at every step.

Our own, and not `transformers.Trainer`: a Trainer killed inside a save did not resume in 3 of 3 trials, loses the
patience of early stopping, and adds 6 ms a step. Everything random is a function of (seed, step), so the state of a run
is its weights, its optimizer and the few numbers of `Progress`; no generator is saved. The loop yields steps and knows
neither Prefect nor MLflow.

A step is computed in parts of at most `token_budget` tokens; parts change how its gradient is computed, not what it is.
When memory does not suffice, in whichever process, all halve the budget and take the step again.
"""

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from tasks.data import batches
from tasks.data.corruption import Corruption
from tasks.data.shards import IGNORED, Shard
from tasks.model import hardware
from tasks.model.forward import Forward
from tasks.model.learner import Learner
from tasks.model.losses import LOSSES
from tasks.model.world import ALONE, Short, World
from tasks.problems.contract import PLAIN, Objective
from tasks.recipe import Train

log = logging.getLogger("vernal.loop")


@dataclass
class Progress:
    """How far a run has come: all of its state besides weights and optimizer."""

    step: int = 0
    best: float | None = None  # validation metric of the best step
    best_step: int = 0
    waited: int = 0  # evaluations since the best step
    halvings: int = 0  # of the token budget and the micro-batch, when memory did not suffice
    history: list[dict[str, float]] = field(default_factory=list)  # what was measured, in the order of steps


@dataclass(frozen=True)
class Plan:
    """The steps of a run."""

    shard: Shard
    how: Train
    by_length: bool = False  # whether rows of near length come together, for models that must be padded
    corruption: Corruption | None = None  # of the rows, for a masked language model

    @cached_property
    def rows(self) -> batches.Rows:
        return batches.subset(len(self.shard), self.how.max_rows, self.how.seed)

    @cached_property
    def per_epoch(self) -> int:
        return math.ceil(len(self.rows) / self.how.batch)

    @property
    def total(self) -> int:
        return self.per_epoch * self.how.epochs

    def epoch(self, number: int) -> list[batches.Rows]:
        """The batches of an epoch, in their order."""
        lengths = self.shard.sizes if self.by_length else None
        return batches.epoch_of(self.rows, lengths, self.how.batch, self.how.seed, number)

    def parts(self, rows: batches.Rows, halvings: int = 0) -> list[batches.Rows]:
        """The rows of a batch in the parts that are computed at once."""
        budget = self.how.token_budget >> halvings
        most = max(1, (self.how.micro_batch or len(rows)) >> halvings)
        return batches.parted(rows, self.shard.sizes[rows], budget, most)

    def shares(self, rows: batches.Rows, world: World, halvings: int) -> list[list[batches.Rows]]:
        """The parts of a batch that each process computes."""
        return [self.parts(share, halvings) for share in world.shares(rows, self.shard.sizes[rows])]

    def labels(self, rows: batches.Rows) -> int:
        """How many labels stand in these rows."""
        return labels_of(self.shard, rows, self.corruption)

    def decayed(self, steps: int) -> float:
        """What weight decay leaves of a weight that has no gradient in so many steps."""
        return math.prod(1 - rate_at(step, self.total, self.how) * self.how.weight_decay for step in range(steps))


def labels_of(shard: Shard, rows: batches.Rows, corruption: Corruption | None) -> int:
    """How many labels a head has to answer in these rows."""
    if corruption:
        return corruption.labels(shard, rows)
    answered = shard.target or shard
    if answered.at != "tokens":
        return len(rows)
    return int((answered.labels[batches.tokens_of(answered.bounds, rows)] != IGNORED).sum())


@dataclass(frozen=True)
class Step:
    """One optimizer step that was taken; the tensors stay on the device until somebody reads them."""

    number: int  # from 1
    epoch: int  # from 1
    loss: torch.Tensor  # mean over the labels of the batch
    norm: torch.Tensor  # of the gradient before clipping
    rate: float
    tokens: int
    ends_epoch: bool


def rate_at(step: int, total: int, how: Train) -> float:
    """The learning rate of step 0, 1, ...: up in a straight line over the warm-up, then down as the schedule says."""
    warm = math.ceil(total * how.warmup)
    if step < warm:
        return how.learning_rate * (step + 1) / warm
    left = (total - step) / max(1, total - warm)
    shape = {"linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left)), "constant": 1.0}
    return how.learning_rate * shape[how.schedule]


def steps(learner: Learner, plan: Plan, progress: Progress) -> Iterator[Step]:
    """Takes the steps that are left, one a turn; `progress.step` counts them."""
    learner.decayed = plan.decayed(progress.step)
    while progress.step < plan.total:
        epoch = progress.step // plan.per_epoch
        for rows in plan.epoch(epoch)[progress.step % plan.per_epoch :]:
            loss = _gradient(learner, plan, rows, progress)
            rate = rate_at(progress.step, plan.total, plan.how)
            norm = learner.update(rate)
            progress.step += 1
            tokens = int(plan.shard.sizes[rows].sum())
            yield Step(
                progress.step, epoch + 1, loss, norm, rate, tokens, ends_epoch=progress.step % plan.per_epoch == 0
            )


def _gradient(learner: Learner, plan: Plan, rows: batches.Rows, progress: Progress) -> torch.Tensor:
    """Computes the gradient of the mean loss over the labels of `rows`, in as many parts as memory asks for."""
    while True:
        shares = plan.shares(rows, learner.world, progress.halvings)
        try:
            hardware.seed(_mixed(plan.how.seed, progress.step, learner.world.rank), learner.device)
            loss = _in_parts(learner, plan, rows, shares, progress.step)
            learner.world.proceed()
        except RuntimeError as error:
            if hardware.out_of_memory(error):
                learner.world.fall_short()
            elif not isinstance(error, Short):
                raise
            if all(len(part) <= 1 for parts in shares for part in parts):
                raise
        else:
            learner.add(loss)
            return loss
        learner.forget()
        progress.halvings += 1
        log.warning("W-MEMORY step %d does not fit: computed in parts of half the size", progress.step + 1)


def _in_parts(
    learner: Learner, plan: Plan, rows: batches.Rows, shares: list[list[batches.Rows]], step: int
) -> torch.Tensor:
    mine, turns = shares[learner.world.rank], max(map(len, shares))
    labels, epoch = plan.labels(rows), step // plan.per_epoch + 1
    total = torch.zeros((), device=learner.device)
    for part in [*mine, *[rows[:0]] * (turns - len(mine))]:
        counts = len(part) > 0  # a process without a row goes along with one that counts for nothing
        batch = learner.forward.batch(plan.shard, part if counts else rows[:1], epoch)
        loss = learner.loss(batch, labels) * counts
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total


def _mixed(seed: int, step: int, rank: int) -> int:
    named = [seed, 3, step, rank] if rank else [seed, 3, step]
    return int(np.random.SeedSequence(named).generate_state(1, np.uint64)[0])


def evaluate(
    forward: Forward, shard: Shard, world: World = ALONE, objective: Objective = PLAIN
) -> tuple[float, npt.NDArray[Any]]:
    """Mean loss over the labels of a split, and what is kept of the outputs: by itself the predicted ids.

    Returns:
        The loss in nats or squares, and what was kept, (rows, ...) or (tokens, ...) in the order of the shard, of its
        target where there is one; IGNORED, or minus infinity, at tokens that are not read.
    """
    found: torch.Tensor | None = None
    sums = torch.zeros(2, dtype=torch.float64)  # of losses, and of labels
    parts = list(forward.at_once(shard.sizes))
    with forward.examined():
        for number in range(world.rank, world.size * math.ceil(len(parts) / world.size), world.size):
            rows = parts[number % len(parts)]
            batch = forward.batch(shard, rows)
            logits = forward(batch)
            said = objective.reduced(logits, batch).cpu()
            said = said if said.is_floating_point() else said.long()
            places, room = _places(shard, rows, batch, forward)
            if found is None:
                found = said.new_full((room, *said.shape[1:]), -math.inf if said.is_floating_point() else IGNORED)
            if number >= len(parts):
                continue  # computed for the others' sake, who may need this process's share of the model
            found[torch.from_numpy(places)] = said
            sums[0] += LOSSES[objective.loss](logits, batch, 0.0).cpu()
            sums[1] += labels_of(shard, rows, forward.corruption)
    assert found is not None
    total, labels = world.total(sums).tolist()
    return total / max(1, labels), world.most(found).numpy()


def _places(shard: Shard, rows: batches.Rows, batch: batches.Batch, forward: Forward) -> tuple[batches.Rows, int]:
    """Where the answers of a batch belong, and how many places there are."""
    answered = shard.target or shard
    if answered.at != "tokens" and not forward.corruption:
        return rows, len(shard)
    places = batches.tokens_of(answered.bounds, rows)
    return places if batch.read is None else places[batch.read], len(answered.tokens)
