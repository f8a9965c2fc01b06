"""The Transformer (Vaswani et al. 2017), written to be read; transformers finds it by `model_type` without remote code.

    config      nine sizes, and how layers are built
    positions   sine waves, or rotations
    attention   softmax(Q K^T / sqrt(d_k)) V, in heads
    layers      attention, feed-forward net, and what they add to
    stacks      encoder, decoder, both
    heads       a label, a label a token, a span, words

Defaults are what came to be usual since: norms in front, rotary positions, gated feed-forward nets.
"""

from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)

from tasks.model.transformer import heads
from tasks.model.transformer.config import TransformerConfig
from tasks.model.transformer.stacks import Transformer

__all__ = ["Transformer", "TransformerConfig"]

AutoConfig.register(TransformerConfig.model_type, TransformerConfig, exist_ok=True)
for auto, model in (
    (AutoModel, Transformer),
    (AutoModelForCausalLM, heads.TransformerForCausalLM),
    (AutoModelForMaskedLM, heads.TransformerForMaskedLM),
    (AutoModelForQuestionAnswering, heads.TransformerForQuestionAnswering),
    (AutoModelForSeq2SeqLM, heads.TransformerForSeq2SeqLM),
    (AutoModelForSequenceClassification, heads.TransformerForSequenceClassification),
    (AutoModelForTokenClassification, heads.TransformerForTokenClassification),
):
    auto.register(TransformerConfig, model, exist_ok=True)
