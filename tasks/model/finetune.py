"""Checkpoint + Shards -> Checkpoint: the loop, with everything around it that a person or a kill may ask for.

A run is known by its key; its checkpoints lie in a part of the store of that name. Whoever starts the same run again
goes on from the newest of them, and ends with the same bytes.
"""

import json
import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from transformers import PreTrainedModel

from infra.settings import settings
from tasks import recipe, stages
from tasks.data import shards, tokenisers
from tasks.errors import BadInput, Interrupted
from tasks.model import architectures, loop, metrics, screen
from tasks.model.checkpoints import Checkpoints
from tasks.model.curves import Curves
from tasks.records import Checkpoint, Shards
from tasks.verb import verb

LOGGED = 10  # steps between two points of a curve; reading a loss waits for the device

log = logging.getLogger("vernal.finetune")


@verb
def finetune(
    base: Checkpoint, data: Shards, task: recipe.Task, train: recipe.Train, name: str, run_key: str
) -> Checkpoint:
    """`base` trained on the shards as the recipe says; `name` and `run_key` tell the registry whose curves it gets."""
    key = stages.finetune(base, data, task, train)
    checkpoints = Checkpoints(stages.artifacts().within(f"checkpoints/{key.digest.removeprefix('sha256:')}"))
    curves = Curves(name, run_key)
    trained = stages.once(key, lambda folder: fit(folder, base, data, task, train, checkpoints, curves))
    checkpoints.clear()
    return trained


def fit(
    folder: Path,
    base: Checkpoint,
    data: Shards,
    task: recipe.Task,
    train: recipe.Train,
    checkpoints: Checkpoints,
    curves: Curves,
) -> Checkpoint:
    """Trains from the newest checkpoint on, or from `base`, to the end.

    Raises:
        BadInput: E-DIVERGED, the loss is no number any more.
        Interrupted: E-INTERRUPTED, a signal came; the step is saved.
    """
    device = device_of()
    laid_out = stages.checkout(data.files, folder / "shards")
    model = model_of(stages.checkout(base.files, folder / "base"), base, data, laid_out / "tokenizer", task, train.seed)
    optimizer = loop.optimizer_of(model.to(device), train)  # type: ignore[arg-type]
    progress = checkpoints.restore(model, optimizer)
    plan = loop.Plan(shards.read(laid_out / "train"), train)
    precision = loop.precision_of(train, device)
    log.info("%d steps of %d rows in %s on %s, from step %d", plan.total, train.batch, precision, device, progress.step)
    room = folder / "state"
    room.mkdir()
    watch = Watch(model, shards.read(laid_out / "validation"), data.labels, task, train, precision, device)
    with curves, signals() as caught, screen.bar("training", plan.total, progress.step) as bar:
        run(model, optimizer, plan, progress, watch, checkpoints, curves, bar, caught, room)
    checkpoints.load_best(model)
    return finished(folder / "trained", model, base, data, laid_out / "tokenizer", progress)


def device_of() -> str:
    """cpu or cuda: what the settings say, or the GPU if there is one."""
    if settings().device != "auto":
        return settings().device
    return "cuda" if torch.cuda.is_available() else "cpu"


def model_of(
    folder: Path, base: Checkpoint, data: Shards, tokenizer: Path, task: recipe.Task, seed: int
) -> PreTrainedModel:
    """The base with a head for the labels of the data, weights loaded or drawn."""
    if base.parameters:
        return architectures.pretrained(folder, task, data.labels, seed=seed)
    ids = tokenisers.read(tokenizer).get_vocab()
    special = {name: ids[tokenisers.SPECIAL[name]] for name in ("pad", "cls", "sep")}
    return architectures.initialised(
        folder, task, data.labels, special=special, vocabulary=data.vocabulary, length=data.length, seed=seed
    )


class Watch:
    """The validation split, and what the best step is chosen by."""

    def __init__(
        self,
        model: PreTrainedModel,
        shard: shards.Shard,
        labels: tuple[str, ...],
        task: recipe.Task,
        train: recipe.Train,
        precision: str,
        device: str,
    ) -> None:
        self.model, self.shard, self.labels, self.task = model, shard, labels, task
        self.metric = train.metric or recipe.HEADLINE[task]
        self.precision, self.device = precision, device

    def scores(self) -> dict[str, float]:
        """Loss and metrics of the model as it is now."""
        loss, predicted = loop.evaluate(self.model, self.shard, self.precision, self.device)
        truth, guess = (self._decoded(ids) for ids in (self.shard.labels, predicted))
        return {"loss": loss, **metrics.scores(self.task, metrics.count(self.task, truth, guess, self.labels))}

    def better(self, scores: dict[str, float], best: float | None) -> bool:
        """Whether this evaluation beats the best one."""
        return best is None or (scores["loss"] < best if self.metric == "loss" else scores[self.metric] > best)

    def _decoded(self, ids: shards.Ints) -> list[str] | list[list[str]]:
        if not self.shard.per_token:
            return [self.labels[each] for each in ids]
        spans = zip(self.shard.offsets[:-1], self.shard.offsets[1:], strict=True)
        marked = [(ids[a:b], self.shard.labels[a:b]) for a, b in spans]
        return [[self.labels[i] for i, true in zip(*row, strict=True) if true != shards.IGNORED] for row in marked]


def run(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    plan: loop.Plan,
    progress: loop.Progress,
    watch: Watch,
    checkpoints: Checkpoints,
    curves: Curves,
    bar: screen.Bar,
    caught: list[int],
    room: Path,
) -> None:
    """Takes the steps that are left, evaluates at each epoch's end, saves as often as the settings say."""
    if stops_early(progress, plan.how):
        return
    saved = began = time.monotonic()
    tokens = 0
    for step in loop.steps(model, optimizer, plan, progress, watch.device):
        tokens += step.tokens
        if step.number % LOGGED == 0 or step.ends_epoch:
            point = {"loss": finite(step), "grad_norm": float(step.norm), "learning_rate": step.rate}
            progress.history.append({"step": step.number, "epoch": step.epoch, **point})
            speed = tokens / (time.monotonic() - began)
            measured = {f"train_{name}": value for name, value in point.items()}
            curves.add(step.number, **measured, tokens_per_second=speed)
            bar.show(step.number, loss=point["loss"], speed=speed)
        if step.ends_epoch:
            look(model, progress, watch, checkpoints, curves, bar, room)
        due = time.monotonic() - saved >= settings().checkpoint_seconds
        if step.ends_epoch or caught or due:
            finite(step)
            checkpoints.save(model, optimizer, progress, room)
            saved = time.monotonic()
        if caught:
            name = signal.Signals(caught[0]).name
            found = f"{name} at step {step.number} of {plan.total}"
            message = f"{found}: the step is saved; the same command goes on from it"
            raise Interrupted("E-INTERRUPTED", message, 128 + caught[0])
        if stops_early(progress, plan.how):
            log.info("no better %s %d times: step %d is kept", watch.metric, progress.waited, progress.best_step)
            return


def look(
    model: PreTrainedModel,
    progress: loop.Progress,
    watch: Watch,
    checkpoints: Checkpoints,
    curves: Curves,
    bar: screen.Bar,
    room: Path,
) -> None:
    """Evaluates, and keeps the weights if they are the best so far."""
    scores = watch.scores()
    progress.history.append({"step": progress.step, **{f"validation_{name}": value for name, value in scores.items()}})
    curves.add(progress.step, **{f"validation_{name}": value for name, value in scores.items()})
    bar.say(f"step {progress.step}: validation {watch.metric} {scores[watch.metric]:.4f}, loss {scores['loss']:.4f}")
    if watch.better(scores, progress.best):
        progress.best, progress.best_step, progress.waited = scores[watch.metric], progress.step, 0
        checkpoints.save_best(model, room)
    else:
        progress.waited += 1


def stops_early(progress: loop.Progress, train: recipe.Train) -> bool:
    """Whether the patience of early stopping is spent."""
    return 0 < train.early_stopping <= progress.waited


def finite(step: loop.Step) -> float:
    """The loss of a step, which must be a number."""
    loss = float(step.loss)
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise BadInput(
            "E-DIVERGED",
            f"the loss is {loss} at step {step.number} (epoch {step.epoch}); lower train.learning_rate or train.clip",
        )
    return loss


def finished(
    folder: Path, model: PreTrainedModel, base: Checkpoint, data: Shards, tokenizer: Path, progress: loop.Progress
) -> Checkpoint:
    """The trained model as a Hugging Face directory with its history, kept in the store."""
    model.cpu().save_pretrained(folder)
    for path in tokenizer.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "history.jsonl").write_text("".join(json.dumps(point) + "\n" for point in progress.history))
    best = next((p for p in progress.history if p["step"] == progress.best_step and "validation_loss" in p), {})
    files = stages.keep(folder)
    return Checkpoint.of(
        files,
        parents=(base.digest, data.digest),
        architecture=model.config.model_type,
        parameters=model.num_parameters(),
        tokenizer=stages.tokenizer_digest(files),
        length=data.length,
        steps=progress.step,
        scores={name.removeprefix("validation_"): value for name, value in best.items() if name != "step"},
    )


@contextmanager
def signals() -> Iterator[list[int]]:
    """The SIGTERM or SIGINT that came, instead of dying of it; a second one kills as usual."""
    caught: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        caught.append(number)
        signal.signal(number, signal.SIG_DFL)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
