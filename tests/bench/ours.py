"""Our training engine as a contender: the one place of the bench that knows how it is called."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

from transformers import PreTrainedModel

from tasks.data.shards import Shard
from tasks.model import loop
from tasks.model.learner import Learner
from tasks.recipe import Train
from tests.bench.paired import READY, Taken

WARM = 1  # steps before the first that counts, with another optimizer


def steps(
    model: PreTrainedModel, shard: Shard, how: Train, device: str = "cpu", whole: Shard | None = None
) -> Iterator[Taken]:
    """All epochs over the rows of a shard, which are whole batches; the first turn of frozen layers makes their states.

    Args:
        whole: rows of which those are a sample: the embeddings of all their tokens learn.
    """
    assert len(shard) % how.batch == 0
    learner = Learner(model, whole or shard, how, device)
    for _ in islice(begun(learner, shard, how), WARM):
        pass
    learner = Learner(learner.release(), whole or shard, how, device)
    yield READY
    with TemporaryDirectory() as folder:
        learner.keep([shard], Path(folder))
        for step in begun(learner, shard, how):
            yield Taken(how.batch, step.tokens)


def begun(learner: Learner, shard: Shard, how: Train) -> Iterator[loop.Step]:
    """The engine's steps."""
    return loop.steps(learner, loop.Plan(shard, how, by_length=not learner.forward.packs), loop.Progress())
