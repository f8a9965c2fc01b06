"""One sitting of training: who is told of a step, when the model is looked at, what is saved, and what ends it."""

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from infra.settings import settings
from tasks import recipe
from tasks.data import shards
from tasks.errors import BadInput, Interrupted
from tasks.metrics.marks import LOWER
from tasks.model import loop, screen
from tasks.model.checkpoints import Checkpoints
from tasks.model.curves import Curves
from tasks.model.following import Note
from tasks.model.forward import Forward
from tasks.model.learner import Learner
from tasks.model.world import ALONE, World
from tasks.problems import Problem

LOGGED = 10  # steps between two points of a curve; reading a loss waits for the device

log = logging.getLogger("vernal.finetune")


class Watch:
    """The validation split, and what the best step is chosen by."""

    def __init__(
        self,
        forward: Forward,
        shard: shards.Shard,
        labels: tuple[str, ...],
        problem: Problem,
        metric: recipe.Metric | None,
        world: World = ALONE,
    ) -> None:
        self.world = world
        self.forward, self.shard, self.labels, self.problem = forward, shard, labels, problem
        self.metric = metric or problem.watched[0]

    def scores(self) -> dict[str, float]:
        """Loss and metrics of the model as it is now."""
        loss, kept = loop.evaluate(self.forward, self.shard, self.world, self.problem)
        return {"loss": loss, **self.problem.watch(loss, kept, self.shard, self.labels)}

    def better(self, scores: dict[str, float], best: float | None) -> bool:
        """Whether this evaluation beats the best one."""
        now = scores[self.metric]
        return best is None or (now < best if self.metric in LOWER else now > best)


@dataclass
class Session:
    """The steps that are left, with everything that happens between them."""

    learner: Learner
    plan: loop.Plan
    progress: loop.Progress
    watch: Watch
    checkpoints: Checkpoints
    curves: Curves
    bar: screen.Bar
    caught: list[int]  # signals that came
    note: Note = field(default_factory=lambda: Note(None))

    def run(self) -> None:
        """Takes the steps, looks at each epoch's end, saves as often as the settings say.

        Raises:
            BadInput: E-DIVERGED, the loss is no number any more.
            Interrupted: E-INTERRUPTED, a signal came; the step is saved.
        """
        if self.patience_is_spent():
            return
        saved = began = time.monotonic()
        tokens = 0
        for step in loop.steps(self.learner, self.plan, self.progress):
            tokens += step.tokens
            if step.number % LOGGED == 0 or step.ends_epoch:
                self.tell(step, tokens / (time.monotonic() - began))
            if step.ends_epoch:
                self.look()
            due = self.watch.world.leads and time.monotonic() - saved >= self.interval
            stop, due = self.watch.world.any(bool(self.caught), due)
            if step.ends_epoch or stop or due:
                self.save(step)
                saved = time.monotonic()
            if stop:
                self.checkpoints.wait()
                raise interrupted(self.caught[0] if self.caught else signal.SIGTERM, step.number, self.plan.total)
            if self.patience_is_spent():
                kept = self.progress.best_step
                log.info("no better %s %d times: step %d is kept", self.watch.metric, self.progress.waited, kept)
                return

    @property
    def interval(self) -> float:
        """Seconds between two checkpoints: what the settings say, but not so few that they cost more than 3 %."""
        return max(settings().checkpoint_seconds, 30 * self.checkpoints.seconds)

    def patience_is_spent(self) -> bool:
        """Whether early stopping ends the run."""
        return 0 < self.plan.how.early_stopping <= self.progress.waited

    def tell(self, step: loop.Step, speed: float) -> None:
        """A point of the curves; `speed` in tokens a second."""
        point = {"loss": finite(step), "grad_norm": float(step.norm), "learning_rate": step.rate}
        self.progress.history.append({"step": step.number, "epoch": step.epoch, **point})
        self.curves.add(step.number, **_prefixed("train", point), tokens_per_second=speed)
        self.bar.show(step.number, loss=point["loss"], speed=speed)
        self.note.leave(step.number, self.plan.total, loss=point["loss"], speed=speed)

    def look(self) -> None:
        """Evaluates; the checkpoint of the best step so far is kept as such."""
        progress, watch = self.progress, self.watch
        scores = watch.scores()
        progress.history.append({"step": progress.step, **_prefixed("validation", scores)})
        self.curves.add(progress.step, **_prefixed("validation", scores))
        found = f"validation {watch.metric} {scores[watch.metric]:.4f}, loss {scores['loss']:.4f}"
        self.bar.say(f"step {progress.step}: {found}")
        if watch.better(scores, progress.best):
            progress.best, progress.best_step, progress.waited = scores[watch.metric], progress.step, 0
        else:
            progress.waited += 1

    def save(self, step: loop.Step) -> None:
        """Writes a checkpoint; never of a loss that is no number."""
        finite(step)
        self.checkpoints.save(self.learner, self.progress)


def finite(step: loop.Step) -> float:
    """The loss of a step, which must be a number."""
    loss = float(step.loss)
    if loss != loss or loss in (float("inf"), float("-inf")):
        raise BadInput(
            "E-DIVERGED",
            f"the loss is {loss} at step {step.number} (epoch {step.epoch}); lower train.learning_rate or train.clip",
        )
    return loss


def interrupted(number: int, step: int, total: int) -> Interrupted:
    """The error that ends a run after a signal."""
    found = f"{signal.Signals(number).name} at step {step} of {total}"
    return Interrupted("E-INTERRUPTED", f"{found}: the step is saved; the same command goes on from it", 128 + number)


def _prefixed(what: str, values: dict[str, float]) -> dict[str, float]:
    return {f"{what}_{name}": value for name, value in values.items()}


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
