"""Attention: each token asks with a query, is found by its key, and gives its value."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import Cache, EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tasks.model.transformer.config import TransformerConfig
from tasks.model.transformer.positions import Rotation, rotated

Found = tuple[torch.Tensor, torch.Tensor | None]


def scaled_dot_product(
    module: nn.Module,
    query: torch.Tensor,  # (batch, heads, queries, width)
    key: torch.Tensor,  # (batch, heads, keys, width)
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,  # added to the scores, (batch, 1, queries, keys)
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> Found:
    """softmax(Q K^T / sqrt(d_k)) V (Vaswani et al. 2017, equation 1), (batch, queries, heads, width), and the weights.

    For `attn_implementation="eager"`, which shows the weights; other implementations give the same faster.
    """
    scores = query @ key.transpose(2, 3) * (scaling or query.shape[-1] ** -0.5)  # (batch, heads, queries, keys)
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = functional.dropout(scores.softmax(-1), dropout, module.training)
    return (weights @ value).transpose(1, 2), weights


class Attention(nn.Module):
    """Concat(head_1 ... head_h) W_O, head_i = attention(Q W_i, K W_i, V W_i) (Vaswani et al. 2017, section 3.2.2).

    Args:
        layer_idx: the layer's number, by which a cache keeps its keys and values.
        causal: whether a token sees only those before it, and itself.
    """

    def __init__(self, config: TransformerConfig, layer_idx: int, causal: bool = False) -> None:
        super().__init__()
        self.config, self.layer_idx, self.is_causal = config, layer_idx, causal
        self.head_dim = config.d_model // config.num_heads
        self.q_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.k_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.v_proj = nn.Linear(config.d_model, config.d_model, bias=False)
        self.out_proj = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self,
        hidden_states: torch.Tensor,  # (batch, tokens, d_model)
        attention_mask: torch.Tensor | None = None,
        key_value_states: torch.Tensor | None = None,  # (batch, source, d_model), where they are another stack's
        rotation: Rotation | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> Found:
        """(batch, tokens, d_model), and the weights where the implementation shows them."""
        queries = self._by_heads(self.q_proj(hidden_states))  # (batch, tokens, heads, width)
        if rotation is not None:
            queries = rotated(queries, rotation)
        keys, values = self._keys_and_values(hidden_states, key_value_states, rotation, past_key_values)
        attend: Callable[..., Found] = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.config._attn_implementation, scaled_dot_product
        )
        dropout = self.config.dropout if self.training else 0.0
        found, weights = attend(
            self,
            queries.transpose(1, 2),  # (batch, heads, tokens, width)
            keys,
            values,
            attention_mask,
            dropout=dropout,
            scaling=self.head_dim**-0.5,
            **kwargs,
        )
        return self.out_proj(found.flatten(2)), weights  # (batch, tokens, heads, width) to (batch, tokens, d_model)

    def _keys_and_values(
        self,
        own: torch.Tensor,
        others: torch.Tensor | None,
        rotation: Rotation | None,
        past: Cache | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """(batch, heads, tokens seen, width) each; what a cache holds comes first, a source is projected once."""
        cache: Any = past
        if isinstance(past, EncoderDecoderCache):
            cache = past.self_attention_cache if others is None else past.cross_attention_cache
            if others is not None and past.is_updated.get(self.layer_idx):
                kept = cache.layers[self.layer_idx]
                return kept.keys, kept.values
        seen = own if others is None else others
        keys, values = self._by_heads(self.k_proj(seen)), self._by_heads(self.v_proj(seen))
        if rotation is not None:
            keys = rotated(keys, rotation)
        keys, values = keys.transpose(1, 2), values.transpose(1, 2)
        if cache is not None:
            keys, values = cache.update(keys, values, self.layer_idx)
        if others is not None and isinstance(past, EncoderDecoderCache):
            past.is_updated[self.layer_idx] = True
        return keys, values

    def _by_heads(self, states: torch.Tensor) -> torch.Tensor:
        # (batch, tokens, d_model) to (batch, tokens, heads, width)
        return states.view(*states.shape[:2], -1, self.head_dim)
