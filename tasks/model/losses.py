"""What is made small: losses of a batch, summed over its rows, or over the labels of its tokens.

A step divides the sum by the rows, or labels, of all its parts, and so gets the mean that torch's functions, and the
heads of transformers, give for the whole batch. Logits come without padding (`tasks.model.forward`).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from tasks.data.batches import Batch
from tasks.encoding import IGNORED
from tasks.model import hardware

Loss = Callable[[torch.Tensor, Batch, float], torch.Tensor]  # logits, batch and label smoothing to a sum


def cross_entropy(logits: torch.Tensor, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
    """-log softmax of the true class of each row, or token: logits (labels, classes); IGNORED counts for nothing.

    With `smoothing`, a share of the truth is dealt to all classes alike (Szegedy et al. 2016, section 7).
    """
    labels = _sent(batch.labels, logits)
    return functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum", label_smoothing=smoothing)


def binary_cross_entropy(logits: torch.Tensor, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
    """Mean over the classes of a row, each of which holds or not: logits and labels (rows, classes), labels 0 or 1."""
    labels = _sent(batch.labels, logits).to(logits.dtype)
    labels = labels * (1 - smoothing) + smoothing / 2
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="none").mean(1).sum()


def squared_error(logits: torch.Tensor, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
    """Mean over the numbers of a row: logits (rows, numbers), labels the same or, for one, (rows,)."""
    labels = _sent(batch.labels, logits).to(logits.dtype).view_as(logits)
    return functional.mse_loss(logits, labels, reduction="none").mean(1).sum()


def span(logits: torch.Tensor, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
    """Mean of the cross entropies of where an answer starts and ends, over the tokens of its row.

    Logits (tokens, 2), labels (rows, 2) counted from the beginning of the row. The heads of transformers let padding
    take part, so that their loss of a row depends on the rows beside it; this one does not.
    """
    ends = [_among(logits[:, side], batch.answered.lengths, batch.labels[:, side], smoothing) for side in (0, 1)]
    return (ends[0] + ends[1]) / 2


def choice(logits: torch.Tensor, batch: Batch, smoothing: float = 0.0) -> torch.Tensor:
    """Of the right one of a row's sequences: logits (sequences, 1), labels (rows,)."""
    assert batch.groups is not None
    return _among(logits[:, 0], np.bincount(batch.groups), batch.labels, smoothing)


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
    "span": span,
    "choice": choice,
}


def _among(
    scores: torch.Tensor, sizes: npt.NDArray[np.int64], right: npt.NDArray[np.int64], smoothing: float
) -> torch.Tensor:
    """Cross entropies of segments: scores (segments' sizes in all,), the place of the right one in each (segments,)."""
    segment = _sent(np.repeat(np.arange(len(sizes)), sizes), scores)
    true = scores[_sent(np.cumsum(sizes) - sizes + right, scores)]
    nothing = scores.new_zeros(len(sizes))
    most = torch.full_like(nothing, -torch.inf).scatter_reduce(0, segment, scores.detach(), "amax")
    total = nothing.index_add(0, segment, (scores - most[segment]).exp())
    mean = nothing.index_add(0, segment, scores) / _sent(sizes, scores)
    return (most + total.log() - (1 - smoothing) * true - smoothing * mean).sum()


def _sent(numbers: npt.NDArray[np.integer] | npt.NDArray[np.float32], like: torch.Tensor) -> torch.Tensor:
    return hardware.sent(numbers, like.device.type)
