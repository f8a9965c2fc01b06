"""What a model is taught by: each a sum over the labels of a batch, in nats or squares.

The mean over a step is taken outside: its labels may come in parts, and lie in several processes.
"""

from collections.abc import Callable

import torch
from torch.nn import functional

from tasks.encoding import IGNORED

Loss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """-log softmax of the true label: logits (..., labels), labels (...); those that are IGNORED count for nothing.

    With `smoothing`, a share of the truth is dealt to all labels alike (Szegedy et al. 2016, section 7).
    """
    return functional.cross_entropy(
        logits.flatten(0, -2),
        labels.flatten(),
        ignore_index=IGNORED,
        reduction="sum",
        label_smoothing=smoothing,
    )


def binary_cross_entropy(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """The mean over the labels of a row of -log sigmoid, or of what is left to 1; logits and labels (rows, labels)."""
    truth = labels * (1 - smoothing) + smoothing / 2
    each = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    return each.mean(-1).sum()


def squared_error(logits: torch.Tensor, labels: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    """(output - number)^2: logits (rows, 1), labels (rows,)."""
    return (logits[:, 0] - labels).square().sum()


LOSSES: dict[str, Loss] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy": binary_cross_entropy,
    "squared_error": squared_error,
}
