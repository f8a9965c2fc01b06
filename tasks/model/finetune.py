"""Checkpoint + Shards -> Checkpoint: the loop, with everything around it that a person or a kill may ask for.

A run is known by its key; its checkpoints lie in a part of the store of that name. Whoever starts the same run again
goes on from the newest of them, and ends with the same bytes.
"""

import json
from pathlib import Path

from tasks import recipe, stages
from tasks.model import checkpoints, following, hardware, launch
from tasks.model.training import Job, Trained, lay_out, train
from tasks.model.world import World
from tasks.records import Checkpoint, Shards
from tasks.verb import verb


@verb
def finetune(
    base: Checkpoint, data: Shards, task: recipe.Task, how: recipe.Train, name: str, run_key: str
) -> Checkpoint:
    """`base` trained on the shards as the recipe says; `name` and `run_key` tell the registry whose curves it gets."""
    key = stages.finetune(base, data, task, how)
    there = f"checkpoints/{key.digest.removeprefix('sha256:')}"
    job = Job(base=base, data=data, task=task, train=how, name=name, run_key=run_key, checkpoints=there)
    trained = stages.once(key, lambda folder: fit(folder, job))
    checkpoints.clear(stages.artifacts().within(there))
    return trained


def fit(folder: Path, job: Job) -> Checkpoint:
    """Trains in this process, or in a group of them."""
    lay_out(folder, job)
    with following.followed(folder, job.name):
        if job.train.launch == "torchrun":
            trained = launch.together(folder, job)
        else:
            trained = train(folder, job, World(hardware.chosen()))
    return finished(folder, job, trained)


def finished(folder: Path, job: Job, trained: Trained) -> Checkpoint:
    """The trained model as a Hugging Face directory with its history, kept in the store."""
    made = folder / "trained"
    for path in (folder / "shards" / "tokenizer").iterdir():
        (made / path.name).write_bytes(path.read_bytes())
    (made / "history.jsonl").write_text("".join(json.dumps(point) + "\n" for point in trained.history))
    best = next((p for p in trained.history if p["step"] == trained.best_step and "validation_loss" in p), {})
    files = stages.keep(made)
    return Checkpoint.of(
        files,
        parents=(job.base.digest, job.data.digest),
        architecture=trained.architecture,
        parameters=trained.parameters,
        tokenizer=stages.tokenizer_digest(files),
        length=job.data.length,
        steps=trained.steps,
        computed=trained.computed,
        scores={name.removeprefix("validation_"): value for name, value in best.items() if name != "step"},
    )
