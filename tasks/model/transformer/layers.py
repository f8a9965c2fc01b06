"""A layer: attention mixes tokens, a feed-forward net works on each of them, and both only add to what is there."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import Cache
from transformers.activations import ACT2FN
from transformers.modeling_layers import GradientCheckpointingLayer

from tasks.model.transformer.attention import Attention
from tasks.model.transformer.config import TransformerConfig
from tasks.model.transformer.positions import Rotation


class FeedForward(nn.Module):
    """f(x W_1 + b_1) W_2 + b_2 (Vaswani et al. 2017, equation 2), or (f(x W) * x V) W_2 (Shazeer 2020, equation 6)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.act = ACT2FN[config.activation]
        self.up_proj = nn.Linear(config.d_model, config.dff, bias=not config.glu)
        self.gate_proj = nn.Linear(config.d_model, config.dff, bias=False) if config.glu else None
        self.down_proj = nn.Linear(config.dff, config.d_model, bias=not config.glu)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, d_model), by way of (batch, tokens, dff)"""
        inner = self.up_proj(hidden_states)
        gated = self.act(inner) if self.gate_proj is None else self.act(self.gate_proj(hidden_states)) * inner
        states: torch.Tensor = self.down_proj(gated)
        return states


class Layer(GradientCheckpointingLayer):
    """A layer of an encoder; `causal`, of a decoder; `crossed`, of a decoder that looks at an encoder's states."""

    def __init__(self, config: TransformerConfig, layer_idx: int, causal: bool, crossed: bool) -> None:
        super().__init__()
        self.pre_norm = config.norm == "pre"
        self.attention = Attention(config, layer_idx, causal)
        self.attention_norm = nn.LayerNorm(config.d_model)
        if crossed:
            self.cross_attention = Attention(config, layer_idx)
            self.cross_attention_norm = nn.LayerNorm(config.d_model)
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = nn.LayerNorm(config.d_model)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        hidden_states: torch.Tensor,  # (batch, tokens, d_model)
        encoder_hidden_states: torch.Tensor | None = None,  # (batch, source, d_model)
        *,
        attention_mask: torch.Tensor | None = None,
        encoder_attention_mask: torch.Tensor | None = None,
        rotation: Rotation | None = None,
        past_key_values: Cache | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """(batch, tokens, d_model)"""
        kwargs["past_key_values"] = past_key_values

        def attend(states: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.attention(states, attention_mask, rotation=rotation, **kwargs)[0]
            return found

        def look(states: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.cross_attention(
                states, encoder_attention_mask, key_value_states=encoder_hidden_states, **kwargs
            )[0]
            return found

        states = self.added(hidden_states, self.attention_norm, attend)
        if encoder_hidden_states is not None:
            states = self.added(states, self.cross_attention_norm, look)
        states = self.added(states, self.feed_forward_norm, self.feed_forward)
        return states

    def added(
        self, states: torch.Tensor, norm: nn.Module, part: Callable[[torch.Tensor], torch.Tensor]
    ) -> torch.Tensor:
        """x + part(norm(x)) (Xiong et al. 2020), or norm(x + part(x)) (Vaswani et al. 2017, section 3.1)."""
        if self.pre_norm:
            found: torch.Tensor = states + self.dropout(part(norm(states)))
        else:
            found = norm(states + self.dropout(part(states)))
        return found
