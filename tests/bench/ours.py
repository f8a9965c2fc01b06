"""Our training engine as a contender: the one place of the bench that knows how it is called."""

from collections.abc import Iterator
from itertools import islice

from transformers import PreTrainedModel

from tasks.data.shards import Shard
from tasks.model import loop
from tasks.recipe import Train
from tests.bench.paired import READY, Taken

WARM = 1  # steps before the first that counts, with another optimizer


def steps(model: PreTrainedModel, shard: Shard, how: Train, device: str = "cpu") -> Iterator[Taken]:
    """All epochs over the rows of a shard, which are whole batches."""
    assert len(shard) % how.batch == 0
    model.to(device)  # type: ignore[arg-type]
    for _ in islice(_begun(model, shard, how, device), WARM):
        pass
    begun = _begun(model, shard, how, device)
    yield READY
    for step in begun:
        yield Taken(how.batch, step.tokens)


def _begun(model: PreTrainedModel, shard: Shard, how: Train, device: str) -> Iterator[loop.Step]:
    plan, progress = loop.Plan(shard, how), loop.Progress()
    return loop.steps(model, loop.optimizer_of(model, how), plan, progress, device)
