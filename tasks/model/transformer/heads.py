"""Heads: what is asked of the states of a body."""

from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional
from transformers import Cache, GenerationMixin
from transformers.modeling_outputs import (
    CausalLMOutputWithPast,
    MaskedLMOutput,
    QuestionAnsweringModelOutput,
    Seq2SeqLMOutput,
    SequenceClassifierOutput,
    TokenClassifierOutput,
)
from transformers.utils.generic import can_return_tuple

from tasks.model.transformer.config import TransformerConfig
from tasks.model.transformer.stacks import PreTrainedTransformer, Transformer, shifted_right


class Head(PreTrainedTransformer):
    """A body of one of the architectures that a head can read.

    Raises:
        ValueError: another architecture.
    """

    reads: ClassVar[tuple[str, ...]] = ("encoder", "decoder")
    why: ClassVar[str] = "two stacks write a sequence, they do not label one"
    accepts_loss_kwargs = False

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        if config.architecture not in self.reads:
            wanted = " or ".join(self.reads)
            raise ValueError(f"{type(self).__name__} of an {config.architecture}, wanted {wanted}: {self.why}")
        self.model = Transformer(config)

    def get_input_embeddings(self) -> nn.Module:
        """The body's."""
        table: nn.Module = self.model.get_input_embeddings()
        return table

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Another table for the body."""
        self.model.set_input_embeddings(value)


class TransformerForSequenceClassification(Head):
    """A label or a number of a row: from the mean of an encoder's states, or from a decoder's last."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels or 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> SequenceClassifierOutput:
        found = self.model(input_ids, attention_mask, **kwargs)
        states = found.last_hidden_state  # (batch, tokens, d_model)
        mask = states.new_ones(states.shape[:2]) if attention_mask is None else attention_mask.to(states.dtype)
        if self.config.architecture == "encoder":
            pooled = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)  # (batch, d_model)
        else:
            last = (mask * torch.arange(mask.shape[1], device=mask.device)).argmax(1)
            pooled = states[torch.arange(len(states), device=mask.device), last]  # (batch, d_model)
        logits = self.classifier(self.dropout(pooled))  # (batch, labels)
        loss = None
        if labels is not None:
            loss = self.loss_function(labels=labels, pooled_logits=logits, config=self.config)
        return SequenceClassifierOutput(loss, logits, found.hidden_states, found.attentions)


class TransformerForTokenClassification(Head):
    """A label of each token."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels or 1)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> TokenClassifierOutput:
        found = self.model(input_ids, attention_mask, **kwargs)
        logits = self.classifier(self.dropout(found.last_hidden_state))  # (batch, tokens, labels)
        loss = None if labels is None else self.loss_function(logits, labels, self.config)
        return TokenClassifierOutput(loss, logits, found.hidden_states, found.attentions)


class TransformerForQuestionAnswering(Head):
    """Where in a row its answer begins and ends."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.d_model, 2)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        start_positions: torch.Tensor | None = None,
        end_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> QuestionAnsweringModelOutput:
        found = self.model(input_ids, attention_mask, **kwargs)
        begins, ends = self.qa_outputs(found.last_hidden_state).unbind(-1)  # (batch, tokens) each
        loss = None
        if start_positions is not None and end_positions is not None:
            loss = self.loss_function(begins, ends, start_positions, end_positions)
        return QuestionAnsweringModelOutput(loss, begins, ends, found.hidden_states, found.attentions)


class TransformerForMaskedLM(Head):
    """Each token, told from those on both sides (Devlin et al. 2019)."""

    reads = ("encoder",)
    why = "a decoder does not see the words after a gap"
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.input_vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> MaskedLMOutput:
        found = self.model(input_ids, attention_mask, **kwargs)
        logits = self.lm_head(found.last_hidden_state)  # (batch, tokens, vocabulary)
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=logits.shape[-1])
        return MaskedLMOutput(loss, logits, found.hidden_states, found.attentions)


class TransformerForCausalLM(Head, GenerationMixin):
    """The next token, told from those before it (Radford et al. 2019)."""

    reads = ("decoder",)
    why = "an encoder has seen the next word"
    _tied_weights_keys = {"lm_head.weight": "model.decoder.embed_tokens.weight"}

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.input_vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        found = self.model(
            input_ids,
            attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(found.last_hidden_state)  # (batch, tokens, vocabulary)
        loss = None if labels is None else self.loss_function(logits, labels, vocab_size=logits.shape[-1])
        return CausalLMOutputWithPast(loss, logits, found.past_key_values, found.hidden_states, found.attentions)


class TransformerForSeq2SeqLM(Head, GenerationMixin):
    """A target, told word by word from its source (Sutskever et al. 2014): the sum of log p(y_i given y_<i, x)."""

    reads = ("encoder-decoder",)
    why = "one stack reads the source, another writes the target"
    _tied_weights_keys = {"lm_head.weight": "model.encoder.embed_tokens.weight"}

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__(config)
        self.lm_head = nn.Linear(config.d_model, config.target_vocab, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        decoder_input_ids: torch.Tensor | None = None,
        decoder_attention_mask: torch.Tensor | None = None,
        encoder_outputs: Any = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        decoder_inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> Seq2SeqLMOutput:
        if labels is not None and decoder_input_ids is None and decoder_inputs_embeds is None:
            decoder_input_ids = self.prepare_decoder_input_ids_from_labels(labels)
        found = self.model(
            input_ids,
            attention_mask,
            decoder_input_ids=decoder_input_ids,
            decoder_attention_mask=decoder_attention_mask,
            encoder_outputs=encoder_outputs,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            decoder_inputs_embeds=decoder_inputs_embeds,
            use_cache=use_cache,
            **kwargs,
        )
        logits = self.lm_head(found.last_hidden_state)  # (batch, target, vocabulary)
        loss = None if labels is None else functional.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        parts = {name: value for name, value in found.items() if name != "last_hidden_state"}
        return Seq2SeqLMOutput(loss=loss, logits=logits, **parts)

    def prepare_decoder_input_ids_from_labels(self, labels: torch.Tensor) -> torch.Tensor:
        """What the decoder is given to foretell the labels, (batch, target)."""
        return shifted_right(labels, self.config)
