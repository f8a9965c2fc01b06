"""Fine-tunings of small models, laid out as `finetune` lays them out."""

from pathlib import Path
from typing import Any

from tasks.model.training import Job, lay_out
from tests import makers


def job(made: makers.Made, folder: Path, **train: Any) -> Job:
    """The fine-tuning of a made model with other dials, in the folder."""
    dials = made.recipe.train.model_copy(update={"early_stopping": 0, **train})
    given = {"name": "small", "run_key": made.recipe.digest, "checkpoints": "there"}
    found = Job(base=made.base, data=made.shards, task=made.recipe.task, train=dials, **given)
    lay_out(folder, found)
    return found
