"""How much arithmetic a model does: what is useful of it, whatever the program computes besides."""

from typing import Any

import numpy as np
import numpy.typing as npt


def forward(config: Any, lengths: npt.NDArray[np.integer[Any]]) -> float:
    """FLOPs of the layers of a BERT over rows of `lengths` tokens, two to a multiply-add.

    For each layer and row of n tokens: 2 n (4 h² + 2 h i) for the six matrix products (h: width, i: width of the
    feed-forward layer) and 4 n² h for scores and their product with the values, as counted by Narayanan et al. 2021
    (Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM, section 5.1 and appendix), there
    for i = 4 h: 24 n h² + 4 n² h. Embeddings, norms, softmax, dropout, pooler and head are left out: below 1 % here.
    Tokens are real tokens: padding earns nothing, and what an engine need not compute still counts.
    """
    h, i = config.hidden_size, config.intermediate_size
    n = lengths.astype(np.float64)
    return float(config.num_hidden_layers * (2 * n * (4 * h * h + 2 * h * i) + 4 * n * n * h).sum())


def training(config: Any, lengths: npt.NDArray[np.integer[Any]]) -> float:
    """FLOPs of a forward and a backward pass, which costs twice the forward pass (the same section)."""
    return 3 * forward(config, lengths)
