"""The training loop: full fine-tuning with AdamW, resumable at every step.

Our own, and not `transformers.Trainer`: a Trainer killed inside a save did not resume in 3 of 3 trials, loses the
patience of early stopping, and adds 6 ms a step. Everything random is a function of (seed, step), so the state of a run
is its weights, its optimizer and the few numbers of `Progress`; no generator is saved. The loop yields steps and knows
neither Prefect nor MLflow.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from tasks.data import batches
from tasks.data.shards import IGNORED, Shard
from tasks.model import hardware
from tasks.recipe import Train

EVALUATION_BUDGET = 8192  # tokens computed at once, padding included


@dataclass
class Progress:
    """How far a run has come: all of its state besides weights and optimizer."""

    step: int = 0
    best: float | None = None  # validation metric of the best step
    best_step: int = 0
    waited: int = 0  # evaluations since the best step
    history: list[dict[str, float]] = field(default_factory=list)  # what was measured, in the order of steps


@dataclass(frozen=True)
class Plan:
    """The steps of a run."""

    shard: Shard
    how: Train

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
        return batches.epoch_of(self.rows, self.shard.lengths, self.how.batch, self.how.seed, number)


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


def optimizer_of(model: PreTrainedModel, how: Train) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019) without decay on biases and norms."""
    decayed = [each for each in model.parameters() if each.requires_grad and each.dim() > 1]
    others = [each for each in model.parameters() if each.requires_grad and each.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": how.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=how.learning_rate, fused=True)


def rate_at(step: int, total: int, how: Train) -> float:
    """The learning rate of step 0, 1, ...: up in a straight line over the warm-up, then down as the schedule says."""
    warm = math.ceil(total * how.warmup)
    if step < warm:
        return how.learning_rate * (step + 1) / warm
    left = (total - step) / max(1, total - warm)
    shape = {"linear": left, "cosine": 0.5 * (1 - math.cos(math.pi * left)), "constant": 1.0}
    return how.learning_rate * shape[how.schedule]


def steps(
    model: PreTrainedModel, optimizer: torch.optim.Optimizer, plan: Plan, progress: Progress, device: str
) -> Iterator[Step]:
    """Takes the steps that are left, one a turn; `progress.step` counts them."""
    precision = hardware.precision(plan.how, device)
    trained = [each for each in model.parameters() if each.requires_grad]
    while progress.step < plan.total:
        epoch = progress.step // plan.per_epoch
        for rows in plan.epoch(epoch)[progress.step % plan.per_epoch :]:
            rate = rate_at(progress.step, plan.total, plan.how)
            for group in optimizer.param_groups:
                group["lr"] = rate
            torch.manual_seed(_mixed(plan.how.seed, progress.step))
            model.train()
            loss, tokens = _gradient(model, plan, rows, precision, device)
            norm = torch.nn.utils.clip_grad_norm_(trained, plan.how.clip)
            optimizer.step()
            optimizer.zero_grad()
            progress.step += 1
            yield Step(
                progress.step, epoch + 1, loss, norm, rate, tokens, ends_epoch=progress.step % plan.per_epoch == 0
            )


def _mixed(seed: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, 3, step]).generate_state(1, np.uint64)[0])


def _gradient(
    model: PreTrainedModel, plan: Plan, rows: batches.Rows, precision: str, device: str
) -> tuple[torch.Tensor, int]:
    """Adds the gradient of the mean loss over the labels of `rows`, computed a micro-batch at a time."""
    parts = [
        batches.padded(plan.shard, part, model.config.pad_token_id or 0)
        for part in np.array_split(rows, math.ceil(len(rows) / (plan.how.micro_batch or len(rows))))
    ]
    labels = sum(int((part.labels != IGNORED).sum()) for part in parts)
    total = torch.zeros((), device=device)
    for part in parts:
        with hardware.arithmetic(precision, device):
            logits = _logits(model, part, device)
        target = torch.from_numpy(part.labels).to(device)
        loss = functional.cross_entropy(
            logits.float().flatten(0, -2),
            target.flatten(),
            ignore_index=IGNORED,
            reduction="sum",
            label_smoothing=plan.how.label_smoothing,
        ) / max(1, labels)
        loss.backward()  # type: ignore[no-untyped-call]
        total += loss.detach()
    return total, sum(int(part.mask.sum()) for part in parts)


def _logits(model: PreTrainedModel, batch: batches.Batch, device: str) -> torch.Tensor:
    ids, mask = (torch.from_numpy(each).to(device, non_blocking=True) for each in (batch.ids, batch.mask))
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    return logits


@torch.inference_mode()
def evaluate(model: PreTrainedModel, shard: Shard, precision: str, device: str) -> tuple[float, npt.NDArray[np.int64]]:
    """Mean loss over the labels of a split, and the predicted label id of each row, or of each token.

    Returns:
        The loss in nats, and ids (rows,) or (tokens,) in the order of the shard.
    """
    model.eval()  # type: ignore[no-untyped-call]
    predicted = np.full(len(shard.labels), IGNORED, np.int64)
    total, labels = 0.0, 0
    for rows in batches.by_budget(shard.lengths, EVALUATION_BUDGET):
        batch = batches.padded(shard, rows, model.config.pad_token_id or 0)
        with hardware.arithmetic(precision, device):
            logits = _logits(model, batch, device).float()
        target = torch.from_numpy(batch.labels).to(device)
        total += float(
            functional.cross_entropy(logits.flatten(0, -2), target.flatten(), ignore_index=IGNORED, reduction="sum")
        )
        labels += int((batch.labels != IGNORED).sum())
        best = logits.argmax(-1).cpu().numpy()
        if not shard.per_token:
            predicted[rows] = best
            continue
        for place, row in enumerate(rows):
            first, last = shard.offsets[row], shard.offsets[row + 1]
            predicted[first:last] = best[place, : last - first]
    return total / max(1, labels), predicted
