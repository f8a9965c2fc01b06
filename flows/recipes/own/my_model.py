"""A classifier of one's own: words in a window of five, and the strongest of what they say (Kim 2014).

The worked example of `model.base.module`: keyword arguments, `forward` and logits as `tasks.model.own` asks for them.
"""

import torch
from torch import nn


class MyClassifier(nn.Module):
    """A convolution over embeddings; `width` is the recipe's, the rest is told by the data.

    Args:
        vocabulary: number of token ids.
        labels: number of outputs.
        length: tokens of the longest row, which a convolution need not know.
    """

    def __init__(self, width: int, vocabulary: int, labels: int, length: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.window = nn.Conv1d(width, width, kernel_size=5, padding=2)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(width, labels)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Logits, (rows, labels), of token ids and their mask, both (rows, tokens)."""
        mask = attention_mask[..., None].bool()
        states = self.embedding(input_ids) * mask
        found = self.window(states.transpose(1, 2)).transpose(1, 2).relu()
        logits: torch.Tensor = self.head(self.dropout(found.masked_fill(~mask, 0).amax(1)))
        return logits
