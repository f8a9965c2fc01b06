"""Small Transformers, the same each time."""

from typing import Any

import torch

from tasks.model.transformer import Transformer, TransformerConfig

SIZES: dict[str, Any] = {
    "num_layers": 2,
    "d_model": 32,
    "num_heads": 4,
    "dff": 48,
    "input_vocab_size": 60,
    "max_length": 40,
    "dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.2,
}


def config(architecture: Any, **dials: Any) -> TransformerConfig:
    """A config of two layers of width 32."""
    return TransformerConfig(**{**SIZES, "architecture": architecture, **dials})


def model(auto: Any, architecture: Any, **dials: Any) -> Any:
    """What transformers makes of it, its weights drawn by a fixed seed."""
    torch.manual_seed(0)
    return auto.from_config(config(architecture, **dials)).eval()


def body(architecture: Any, **dials: Any) -> Transformer:
    """A body of it."""
    torch.manual_seed(0)
    return Transformer(config(architecture, **dials)).eval()


def ids(rows: int = 3, tokens: int = 7, seed: int = 0) -> torch.Tensor:
    """Ordinary tokens, (rows, tokens)."""
    return torch.randint(5, 60, (rows, tokens), generator=torch.Generator().manual_seed(seed))
