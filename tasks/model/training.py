"""A run of training in one process of however many: from what was laid out in a folder to the trained model there."""

import logging
from contextlib import nullcontext
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from transformers import PreTrainedModel

from tasks import fits, problems, recipe, stages
from tasks.data import shards, tokenisers
from tasks.data.corruption import Corruption
from tasks.model import architectures, hardware, loop, screen
from tasks.model.checkpoints import Checkpoints
from tasks.model.curves import Curves
from tasks.model.following import Note
from tasks.model.learner import Learner
from tasks.model.session import Session, Watch, signals
from tasks.model.world import World
from tasks.records import Checkpoint, Shards

log = logging.getLogger("vernal.finetune")


class Job(BaseModel):
    """What is to be trained; the base lies in `base` and the shards in `shards` of the job's folder."""

    model_config = ConfigDict(frozen=True)

    base: Checkpoint
    data: Shards
    task: recipe.Task
    train: recipe.Train
    name: str  # of the model in the registry
    run_key: str
    checkpoints: str  # part of the store


class Trained(BaseModel):
    """What came of it; the model lies in `trained` of the job's folder."""

    model_config = ConfigDict(frozen=True)

    architecture: str
    parameters: int
    steps: int
    computed: str
    best_step: int
    history: tuple[dict[str, float], ...]


def lay_out(folder: Path, job: Job) -> None:
    """Puts into the folder what a job is done with."""
    stages.checkout(job.data.files, folder / "shards")
    stages.checkout(job.base.files, folder / "base")


def train(folder: Path, job: Job, world: World) -> Trained:
    """Trains from the newest checkpoint on, or from the base, to the end.

    Raises:
        BadInput: E-DIVERGED, the loss is no number any more.
        Interrupted: E-INTERRUPTED, a signal came; the step is saved.
    """
    hardware.repeatable(world.device)
    model = model_of(folder, job)
    parameters = model.num_parameters()
    hardware.share_cores(parameters)
    problem = problems.named(job.task)
    rows, validation = (shards.read(folder / "shards" / split) for split in ("train", "validation"))
    corruption = corruption_of(folder, job)
    learner = Learner(model, rows, job.train, world.device, world, problem, corruption)
    room = folder / f"rank-{world.rank}"
    room.mkdir(exist_ok=True)
    learner.keep((rows, validation), room)
    checkpoints = Checkpoints(stages.artifacts().within(job.checkpoints), room)
    progress = checkpoints.restore(learner)
    world.agree(progress.step)  # nobody writes the next checkpoint while another still reads this one
    plan = loop.Plan(rows, job.train, by_length=not learner.forward.packs, corruption=corruption)
    watch = Watch(learner.forward, validation, job.data.labels, problem, job.train.metric, world)
    log.info("%d steps of %d rows, %s, from step %d", plan.total, job.train.batch, learner.says, progress.step)
    curves = Curves(job.name, job.run_key)
    told = curves if world.leads else nullcontext()
    with told, signals() as caught, screen.bar("training", plan.total, progress.step) as bar:
        note = Note(folder if world.leads else None)
        Session(learner, plan, progress, watch, checkpoints, curves, bar, caught, note).run()
    if world.leads:
        best = in_one_piece(folder, job, rows, room) if learner.sharded else learner
        checkpoints.load_best(best)
        best.decayed = plan.decayed(progress.best_step)
        best.release().cpu().save_pretrained(folder / "trained")
    return Trained(
        architecture=model.config.model_type,
        parameters=parameters,
        steps=progress.step,
        computed=learner.says,
        best_step=progress.best_step,
        history=tuple(progress.history),
    )


def in_one_piece(folder: Path, job: Job, rows: shards.Shard, room: Path) -> Learner:
    """A learner in the memory of this host, whom nobody needs to help with its weights."""
    problem, corruption = problems.named(job.task), corruption_of(folder, job)
    learner = Learner(model_of(folder, job), rows, job.train, objective=problem, corruption=corruption)
    learner.keep((), room)
    return learner


def corruption_of(folder: Path, job: Job) -> Corruption | None:
    """How rows are corrupted, if what is hidden in them is to be told."""
    if not problems.named(job.task).corrupted:
        return None
    return Corruption.by(tokenisers.read(folder / "shards" / "tokenizer"), job.train.seed)


def model_of(folder: Path, job: Job) -> PreTrainedModel:
    """The base with a head for the labels of the data, weights loaded or drawn."""
    base, labels, seed = folder / "base", job.data.labels, job.train.seed
    if job.base.architecture == fits.MODULE:
        sizes = {"vocabulary": job.data.vocabulary, "length": job.data.length}
        pad = tokenisers.padding(folder / "shards" / "tokenizer")
        return architectures.settled(base, job.task, labels, **sizes, pad=pad, seed=seed)
    if job.base.parameters:
        return architectures.pretrained(base, job.task, labels, seed=seed)
    ids = tokenisers.read(folder / "shards" / "tokenizer").get_vocab()
    special = {name: ids[tokenisers.SPECIAL[name]] for name in ("pad", "cls", "sep")}
    vocabulary, length = job.data.vocabulary, job.data.length
    return architectures.initialised(
        base, job.task, labels, special=special, vocabulary=vocabulary, length=length, seed=seed
    )
