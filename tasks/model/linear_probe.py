"""What a base knows of the answers before it learns: a linear model over the means of its states.

A thousand training rows are learned from, half as many validation rows answered, and the answers marked as any others
(Alain and Bengio 2017). It costs a pass over these rows and no gradient. Macro-F1 of probes, and on the test split
after fine-tuning:

    banking77   MiniLM                 0.77    0.92 after 5 epochs
                own encoder, 4 x 256   0.44    0.73 after 1
                own encoder, 2 x 128   0.40    0.80 after 3
    sst2        MiniLM                 0.76    0.89 after 2 epochs of 20,000 rows
                own encoder, 4 x 256   0.53
                own encoder, 2 x 128   0.55    0.78 after the same

So it tells a pretrained base from one that is drawn. It tells nothing of drawn ones of two sizes, and not how far many
epochs bring them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from transformers import PreTrainedModel

from tasks import problems
from tasks.data import batches, shards
from tasks.data.shards import Shard
from tasks.fits import MODULE
from tasks.model import hardware
from tasks.model.forward import given
from tasks.model.training import Job, model_of

LEARNED, ANSWERED = 1024, 512  # rows
TOKENS = 16_384  # of all these rows, if they are long

States = npt.NDArray[np.float32]  # (rows, width)


def score(folder: Path, job: Job) -> float | None:
    """The problem's first metric, of the answers that a job's base gives; the job is laid out in the folder.

    None: rows have no label or number of their own, all have the same, or the module is the user's own.
    """
    problem, labels = problems.named(job.task), job.data.labels
    train, validation = (shards.read(folder / "shards" / split) for split in ("train", "validation"))
    seen, asked = drawn(train, LEARNED), drawn(validation, ANSWERED)
    plain = train.at == "rows" and train.labels.ndim == 1 and train.groups is None
    if not plain or job.base.architecture == MODULE or len(np.unique(seen.labels)) < 2:
        return None
    model = model_of(folder, job).to(hardware.chosen()).eval()  # type: ignore[arg-type]
    learned = fitted(states(model, seen), seen.labels)
    truth, answers = (
        problem.decoded(each, asked, labels) for each in (asked.labels, learned.predict(states(model, asked)))
    )
    return float(problem.marks(truth, answers, labels).score(problem.metrics[0]))


def drawn(shard: Shard, most: int) -> Shard:
    """Rows of a shard: `most`, or less where they are long."""
    fit = int(TOKENS * most / (LEARNED + ANSWERED) / shard.sizes.mean())
    return batches.taken(shard, batches.subset(len(shard), min(most, max(1, fit)), seed=0))


def fitted(rows: States, labels: npt.NDArray[Any]) -> Any:
    """A linear model of the labels, or of numbers."""
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    linear = Ridge(len(rows)) if labels.dtype.kind == "f" else LogisticRegression(C=0.1, max_iter=300)
    return make_pipeline(StandardScaler(), linear).fit(rows, labels)


def states(model: PreTrainedModel, shard: Shard) -> States:
    """The mean of the last states of each row's tokens."""
    body = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
    device, means, order = model.device.type, [], []
    with torch.inference_mode():
        for rows in batches.by_budget(shard.sizes, batches.AT_ONCE[device]):
            batch = batches.padded(shard, rows, model.config.pad_token_id or 0)
            found = body(**given(model, batch, device)).last_hidden_state  # (rows, tokens, width)
            mask = hardware.sent(batch.mask, device)[..., None]
            means.append(((found * mask).sum(1) / mask.sum(1)).float().cpu().numpy())
            order.append(rows)
    return np.concatenate(means)[np.argsort(np.concatenate(order))]
