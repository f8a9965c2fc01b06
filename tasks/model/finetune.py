"""Checkpoint + Shards -> Checkpoint: the loop, with everything around it that a person or a kill may ask for.

A run is known by its key; its checkpoints lie in a part of the store of that name. Whoever starts the same run again
goes on from the newest of them, and ends with the same bytes.
"""

import json
import logging
from pathlib import Path

from transformers import PreTrainedModel

from infra.storage import Store
from tasks import recipe, stages
from tasks.data import shards, tokenisers
from tasks.model import architectures, checkpoints, hardware, loop, screen
from tasks.model.checkpoints import Checkpoints
from tasks.model.curves import Curves
from tasks.model.learner import Learner
from tasks.model.session import Session, Watch, signals
from tasks.records import Checkpoint, Shards
from tasks.verb import verb

log = logging.getLogger("vernal.finetune")


@verb
def finetune(
    base: Checkpoint, data: Shards, task: recipe.Task, train: recipe.Train, name: str, run_key: str
) -> Checkpoint:
    """`base` trained on the shards as the recipe says; `name` and `run_key` tell the registry whose curves it gets."""
    key = stages.finetune(base, data, task, train)
    there = stages.artifacts().within(f"checkpoints/{key.digest.removeprefix('sha256:')}")
    curves = Curves(name, run_key)
    trained = stages.once(key, lambda folder: fit(folder, base, data, task, train, there, curves))
    checkpoints.clear(there)
    return trained


def fit(
    folder: Path,
    base: Checkpoint,
    data: Shards,
    task: recipe.Task,
    train: recipe.Train,
    there: Store,
    curves: Curves,
) -> Checkpoint:
    """Trains from the newest checkpoint on, or from `base`, to the end.

    Raises:
        BadInput: E-DIVERGED, the loss is no number any more.
        Interrupted: E-INTERRUPTED, a signal came; the step is saved.
    """
    laid_out = stages.checkout(data.files, folder / "shards")
    model = model_of(stages.checkout(base.files, folder / "base"), base, data, laid_out / "tokenizer", task, train.seed)
    hardware.share_cores(model.num_parameters())
    rows = shards.read(laid_out / "train")
    learner = Learner(model, rows, train, hardware.chosen())
    validation = shards.read(laid_out / "validation")
    learner.keep((rows, validation), folder)
    (folder / "checkpoints").mkdir()
    kept = Checkpoints(there, folder / "checkpoints")
    progress = kept.restore(learner)
    plan = loop.Plan(rows, train, by_length=not learner.forward.packs)
    log.info("%d steps of %d rows, %s, from step %d", plan.total, train.batch, learner.says, progress.step)
    watch = Watch(learner.forward, validation, data.labels, task, train.metric)
    with curves, signals() as caught, screen.bar("training", plan.total, progress.step) as bar:
        Session(learner, plan, progress, watch, kept, curves, bar, caught).run()
    kept.load_best(learner)
    learner.decayed = plan.decayed(progress.best_step)
    model = learner.release()
    return finished(folder / "trained", model, base, data, laid_out / "tokenizer", progress)


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
