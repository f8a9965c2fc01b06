"""How long a fine-tuning takes on this machine: each of its parts is done a few times, and multiplied.

The parts are those of `training.train`, done by what does them there: base and learner are made, states below the
layers that learn are computed, steps are taken on rows of the recipe, a part of the validation split is looked at, a
checkpoint is written. Steps and looks are counted by the token; of the steps it is the median, so that a short
burst of a neighbour on the machine does not count. What a process does once is not counted either: the import of MLflow
and a first look at its database take 6 s of processor time, in the fine-tuning of a minute a tenth.

Told and then measured in a whole `vernal run`, fp32, one thread of a busy machine: processor seconds of the
fine-tuning, and MB that the process held at most beside what `forecast` said of it:

    banking77, MiniLM, 1 epoch                          239 for 240      1,651 for 1,700
    banking77, own encoder of 2 x 128, 3 epochs          87 for  86        902 for 1,096
    banking77, own encoder of 4 x 256, 1 epoch          114 for 133      1,189 for 1,389
    sst2, MiniLM, 4,000 rows once                       108 for 101      1,687 for 1,646
    sst2, own encoder of 2 x 128, 20,000 rows twice     114 for 112        933 for 1,082

Seconds by the clock are those of a machine that stays as busy as it is: for each of processor time there passed five to
fourteen when the paces were measured, and three to eight in the runs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from infra.settings import settings
from tasks import problems, stages
from tasks.data import batches, shards
from tasks.data.shards import Shard
from tasks.model import checkpoints, hardware, loop
from tasks.model.checkpoints import Checkpoints
from tasks.model.learner import Learner
from tasks.model.session import Watch
from tasks.model.training import Job, model_of

WARM = 2  # steps that do not count: memory is found in them
LEAST = 5  # steps that do
ENOUGH = 4.0  # seconds of steps, by the clock and of processor time
LOOKED_AT = 2  # times the tokens that are computed at once

Seconds = npt.NDArray[np.float64]  # by the clock, and of processor time, (2,)
T = TypeVar("T")


@dataclass(frozen=True)
class Pace:
    """What a fine-tuning takes at most: early stopping may end it before."""

    parameters: int
    steps: int
    computed: str  # how, for people
    parts: dict[str, Seconds]

    @property
    def seconds(self) -> float:
        """By the clock."""
        return float(sum(self.parts.values())[0])  # type: ignore[index]

    @property
    def cpu_seconds(self) -> float:
        """Of processor time."""
        return float(sum(self.parts.values())[1])  # type: ignore[index]


def measure(folder: Path, job: Job) -> Pace:
    """The pace of a job, in this process; its base and shards lie in the folder, as `finetune` lays them out.

    Raises:
        BadInput: what the fine-tuning itself would raise, such as E-LAYERS, E-RECOMPUTE or E-MODEL-MODULE.
    """
    how, problem, device = job.train, problems.named(job.task), hardware.chosen()
    hardware.repeatable(device)
    rows, validation = (shards.read(folder / "shards" / split) for split in ("train", "validation"))
    model, loading = timed(lambda: model_of(folder, job))
    parameters = model.num_parameters()
    hardware.share_cores(parameters)
    learner, making = timed(lambda: Learner(model, rows, how, device, objective=problem))
    whole = loop.Plan(rows, how, by_length=not learner.forward.packs)
    sample, held = learned_from(whole), looked_at(validation, device, how.seed)
    _, frozen = timed(lambda: learner.keep((sample, held), folder))
    watch = Watch(learner.forward, held, job.data.labels, problem, how.metric)
    watch.scores()  # once, for what it imports
    _, look = timed(watch.scores)
    token = of_a_token(learner, loop.Plan(sample, how, whole.by_length))
    checkpoint = of_a_checkpoint(learner, folder, job)
    epoch = token * rows.sizes[whole.rows].sum()
    saves = 1 + epoch[0] // max(settings().checkpoint_seconds, 30 * checkpoint[0])
    return Pace(
        parameters=parameters,
        steps=whole.total,
        computed=learner.says,
        parts={
            "beginning": loading + making,
            "frozen layers": frozen * (tokens(rows) + tokens(validation)) / (tokens(sample) + tokens(held)),
            "steps": how.epochs * epoch,
            "validation": how.epochs * look * tokens(validation) / tokens(held),
            "checkpoints": (how.epochs * saves + 1) * checkpoint,  # the last is the trained model
        },
    )


def timed(do: Callable[[], T]) -> tuple[T, Seconds]:
    """What `do` returns, and how long it took."""
    began = now()
    found = do()
    return found, now() - began


def now() -> Seconds:
    return np.array([time.perf_counter(), time.process_time()])


def learned_from(plan: loop.Plan) -> Shard:
    """As many rows as are sorted together where rows must be padded, drawn from those of the plan."""
    most = batches.WINDOW * plan.how.batch
    return batches.taken(plan.shard, np.random.default_rng(plan.how.seed).permutation(plan.rows)[:most])


def looked_at(validation: Shard, device: str, seed: int) -> Shard:
    """Rows of the validation split, of which a few batches can be made."""
    rows = max(1, int(LOOKED_AT * batches.AT_ONCE[device] / validation.sizes.mean()))
    return batches.taken(validation, batches.subset(len(validation), rows, seed))


def of_a_token(learner: Learner, plan: loop.Plan) -> Seconds:
    """What a step takes for each of its tokens, by the median of the steps; the learner changes."""
    paces: list[Seconds] = []
    began = before = now()
    for step in loop.steps(learner, plan, loop.Progress()):
        float(step.loss)  # until it can be read the device is at work
        paces.append((now() - before) / step.tokens)
        before = now()
        if len(paces) >= WARM + LEAST and min(before - began) > ENOUGH:
            break
    return np.asarray(np.median(paces[min(WARM, len(paces) - 1) :], axis=0))


def of_a_checkpoint(learner: Learner, folder: Path, job: Job) -> Seconds:
    """What it takes to write one to the store, where it does not stay."""
    store, room = stages.artifacts().within(job.checkpoints), folder / "checkpoint"
    room.mkdir()
    there = Checkpoints(store, room)

    def save() -> None:
        there.save(learner, loop.Progress())
        there.wait()

    try:
        return timed(save)[1]
    finally:
        checkpoints.clear(store)


def tokens(shard: Shard) -> int:
    """That are computed for its rows."""
    return int(shard.sizes.sum())
