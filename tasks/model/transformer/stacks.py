"""An encoder, a decoder, or an encoder with a decoder that looks at its states."""

import math
from typing import Any

import torch
from torch import nn
from transformers import Cache, DynamicCache, EncoderDecoderCache, PreTrainedModel
from transformers.masking_utils import create_bidirectional_mask, create_causal_mask
from transformers.modeling_outputs import (
    BaseModelOutput,
    BaseModelOutputWithPastAndCrossAttentions,
    Seq2SeqModelOutput,
)
from transformers.utils.generic import can_return_tuple
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from tasks.model.transformer import positions
from tasks.model.transformer.attention import Attention
from tasks.model.transformer.config import TransformerConfig
from tasks.model.transformer.layers import Layer


class PreTrainedTransformer(PreTrainedModel):
    """What transformers wants to know of our models; weights are drawn from normal(0, 0.02), norms begin as ones."""

    config: TransformerConfig
    config_class = TransformerConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _no_split_modules = ["Layer"]
    _skip_keys_device_placement = ["past_key_values"]
    _supports_sdpa = True


class Stack(PreTrainedTransformer):
    """Embedded tokens with their positions, layers, and a norm behind layers that have theirs in front.

    Args:
        vocabulary: number of token ids.
        known: positions that a learned encoding has vectors for.
    """

    def __init__(
        self, config: TransformerConfig, vocabulary: int, known: int | None, *, causal: bool, crossed: bool
    ) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(vocabulary, config.d_model)
        if config.positions == "learned":
            self.learned_positions = nn.Embedding(known or config.max_length, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(Layer(config, number, causal, crossed) for number in range(config.num_layers))
        self.norm = nn.LayerNorm(config.d_model) if config.norm == "pre" else nn.Identity()
        self.gradient_checkpointing = False
        self.post_init()

    def embedded(self, input_ids: torch.Tensor | None, inputs_embeds: torch.Tensor | None) -> torch.Tensor:
        """Tokens (batch, tokens) as vectors (batch, tokens, d_model), as long as the waves of their positions.

        Scaled by sqrt(d_model) (Vaswani et al. 2017, section 3.4): a table that makes logits too is drawn small.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("found both or neither of input_ids and inputs_embeds, wanted one")
        vectors: torch.Tensor = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        return vectors * math.sqrt(self.config.d_model)

    def computed(
        self, vectors: torch.Tensor, position_ids: torch.Tensor, source: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """What the layers make of embedded tokens, (batch, tokens, d_model)."""
        config = self.config
        if config.positions == "learned":
            vectors = vectors + self.learned_positions(position_ids)
        if config.positions == "sinusoidal":
            vectors = vectors + positions.sinusoids(position_ids, config.d_model).to(vectors.dtype)
        rotary = config.positions == "rotary"
        kwargs["rotation"] = positions.rotation(position_ids, config.d_model // config.num_heads) if rotary else None
        states = self.dropout(vectors)
        for layer in self.layers:
            states = layer(states, source, **kwargs)
        normed: torch.Tensor = self.norm(states)
        return normed


class Encoder(Stack):
    """Every token sees all others of its row."""

    _can_record_outputs = {"hidden_states": Layer, "attentions": Attention}

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config, config.input_vocab_size, config.pe_input, causal=False, crossed=False)

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,  # (batch, tokens)
        attention_mask: torch.Tensor | None = None,  # (batch, tokens), 0 where there is padding
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,  # (batch, tokens, d_model)
        **kwargs: Any,
    ) -> BaseModelOutput:
        vectors = self.embedded(input_ids, inputs_embeds)
        mask = create_bidirectional_mask(self.config, vectors, attention_mask)
        if position_ids is None:
            position_ids = torch.arange(vectors.shape[1], device=vectors.device)[None]
        return BaseModelOutput(self.computed(vectors, position_ids, attention_mask=mask, **kwargs))


class Decoder(Stack):
    """Every token sees those before it, and all states of the source where there is one."""

    _can_record_outputs = {
        "hidden_states": Layer,
        "attentions": OutputRecorder(Attention, index=1, layer_name="attention"),
        "cross_attentions": OutputRecorder(Attention, index=1, layer_name="cross_attention"),
    }

    def __init__(self, config: TransformerConfig) -> None:
        crossed = config.is_encoder_decoder
        vocabulary = config.target_vocab if crossed else config.input_vocab_size
        super().__init__(
            config, vocabulary, config.pe_target if crossed else config.pe_input, causal=True, crossed=crossed
        )

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,  # (batch, tokens)
        attention_mask: torch.Tensor | None = None,  # (batch, tokens seen), 0 where there is padding
        position_ids: torch.Tensor | None = None,
        encoder_hidden_states: torch.Tensor | None = None,  # (batch, source, d_model)
        encoder_attention_mask: torch.Tensor | None = None,  # (batch, source)
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        vectors = self.embedded(input_ids, inputs_embeds)
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
            if encoder_hidden_states is not None:
                past_key_values = EncoderDecoderCache(past_key_values, DynamicCache(config=self.config))
        own = past_key_values
        if isinstance(own, EncoderDecoderCache):
            own = own.self_attention_cache
        if position_ids is None:
            before = own.get_seq_length() if own is not None else 0
            position_ids = torch.arange(before, before + vectors.shape[1], device=vectors.device)[None]
        kwargs["attention_mask"] = create_causal_mask(self.config, vectors, attention_mask, own)
        if encoder_hidden_states is not None:
            kwargs["encoder_attention_mask"] = create_bidirectional_mask(
                self.config, vectors, encoder_attention_mask, encoder_hidden_states
            )
        states = self.computed(vectors, position_ids, encoder_hidden_states, past_key_values=past_key_values, **kwargs)
        return BaseModelOutputWithPastAndCrossAttentions(states, past_key_values)


class Transformer(PreTrainedTransformer):
    """The body of a model: the stacks that its config names, without a head."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        if config.architecture != "decoder":
            self.encoder = Encoder(config)
        if config.architecture != "encoder":
            self.decoder = Decoder(config)
        if config.architecture == "encoder-decoder":
            self._tied_weights_keys = {"decoder.embed_tokens.weight": "encoder.embed_tokens.weight"}
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The table of the input's tokens."""
        return self._first.embed_tokens

    def set_input_embeddings(self, value: Any) -> None:
        """Another table for the input's tokens, and for the target's where they share it."""
        self._first.embed_tokens = value
        if self.config.is_encoder_decoder and self.config.tie_embeddings:
            self.decoder.embed_tokens = value

    @property
    def _first(self) -> Stack:
        return self.decoder if self.config.architecture == "decoder" else self.encoder

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,  # (batch, source)
        attention_mask: torch.Tensor | None = None,  # (batch, source), 0 where there is padding
        position_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        use_cache: bool | None = None,
        decoder_input_ids: torch.Tensor | None = None,  # (batch, target)
        decoder_attention_mask: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        **kwargs: Any,
    ) -> Any:
        """States of the tokens; with two stacks, of the target's (none: the source, shifted)."""
        own = {"position_ids": position_ids, "inputs_embeds": inputs_embeds, **kwargs}
        cached = {"past_key_values": past_key_values, "use_cache": use_cache}
        if self.config.architecture == "encoder":
            return self.encoder(input_ids, attention_mask, **own)
        if self.config.architecture == "decoder":
            return self.decoder(input_ids, attention_mask, **own, **cached)
        if encoder_outputs is None:
            encoder_outputs = self.encoder(input_ids, attention_mask, **own)
        if decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = shifted_right(input_ids, self.config)
        found = self.decoder(
            decoder_input_ids,
            decoder_attention_mask,
            encoder_hidden_states=encoder_outputs[0],
            encoder_attention_mask=attention_mask,
            inputs_embeds=decoder_inputs_embeds,
            **cached,
            **kwargs,
        )
        return Seq2SeqModelOutput(
            last_hidden_state=found.last_hidden_state,
            past_key_values=found.past_key_values,
            decoder_hidden_states=found.hidden_states,
            decoder_attentions=found.attentions,
            cross_attentions=found.cross_attentions,
            encoder_last_hidden_state=encoder_outputs[0],
            encoder_hidden_states=encoder_outputs.get("hidden_states"),
            encoder_attentions=encoder_outputs.get("attentions"),
        )


def shifted_right(ids: torch.Tensor | None, config: TransformerConfig) -> torch.Tensor:
    """What a decoder is given to foretell `ids` (batch, tokens): the token before each, at first the start."""
    start = config.bos_token_id if config.decoder_start_token_id is None else config.decoder_start_token_id
    if ids is None or start is None:
        raise ValueError("nothing to decode: found neither target nor source ids, or no bos_token_id to start with")
    shifted = torch.cat((torch.full_like(ids[:, :1], start), ids[:, :-1]), 1)
    return shifted.masked_fill(shifted < 0, config.pad_token_id or 0)  # labels that do not count are -100
