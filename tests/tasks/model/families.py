"""Small models of many families, as transformers builds them: what a base may be."""

from collections.abc import Callable
from typing import Any

import torch
import transformers as hf
from torch import nn
from transformers import PreTrainedModel

from tasks.model.transformer import TransformerConfig, heads

SIZES: dict[str, Any] = {
    "vocab_size": 300,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "num_labels": 5,
    "initializer_range": 0.2,
}
STILL = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
BART: dict[str, Any] = {
    "vocab_size": 300,
    "d_model": 64,
    "encoder_layers": 3,
    "decoder_layers": 3,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 128,
    "decoder_ffn_dim": 128,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "max_position_embeddings": 128,
    "init_std": 0.2,
    "num_labels": 5,
}
T5: dict[str, Any] = {
    "vocab_size": 300,
    "d_model": 64,
    "d_kv": 16,
    "d_ff": 128,
    "num_layers": 3,
    "num_heads": 4,
    "dropout_rate": 0.0,
    "classifier_dropout": 0.0,
    "decoder_start_token_id": 0,
    "num_labels": 5,
}
GPT2: dict[str, Any] = {
    "vocab_size": 300,
    "n_embd": 64,
    "n_layer": 3,
    "n_head": 4,
    "resid_pdrop": 0.0,
    "embd_pdrop": 0.0,
    "attn_pdrop": 0.0,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 5,
    "initializer_range": 0.2,
}
MODERN: dict[str, Any] = {
    **SIZES,
    "num_hidden_layers": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "cls_token_id": 1,
    "sep_token_id": 2,
    "local_attention": 8,
    "global_attn_every_n_layers": 3,
}
DISTIL: dict[str, Any] = {
    "vocab_size": 300,
    "dim": 64,
    "n_layers": 3,
    "n_heads": 4,
    "hidden_dim": 128,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "seq_classif_dropout": 0.0,
    "num_labels": 5,
    "initializer_range": 0.2,
}
DEBERTA: dict[str, Any] = {
    **SIZES,
    **STILL,
    "relative_attention": True,
    "position_buckets": 16,
    "pos_att_type": ["p2c", "c2p"],
    "position_biased_input": False,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "pooler_hidden_size": 64,
}
OWN: dict[str, Any] = {
    "num_layers": 3,
    "d_model": 64,
    "num_heads": 4,
    "dff": 128,
    "input_vocab_size": 300,
    "max_length": 128,
    "dropout": 0.0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "num_labels": 5,
    "initializer_range": 0.2,
}
GROUPED = {"num_key_value_heads": 2, "pad_token_id": 0}


class Mixing(hf.BertForSequenceClassification):
    """A BERT that takes the batch's mean out of its states: rows of a batch see each other."""

    def __init__(self, config: hf.BertConfig) -> None:
        super().__init__(config)
        self.bert.embeddings.register_forward_hook(lambda _, _given, states: states - states.mean(1, keepdim=True))


FIRST = "packed, last layer at first positions"
FAMILIES: dict[str, tuple[Callable[[], PreTrainedModel], str]] = {
    "bert": (lambda: hf.BertForSequenceClassification(hf.BertConfig(**SIZES, **STILL)), FIRST),
    "bert-tokens": (lambda: hf.BertForTokenClassification(hf.BertConfig(**SIZES, **STILL)), "packed"),
    "roberta": (
        lambda: hf.RobertaForSequenceClassification(hf.RobertaConfig(**SIZES, **STILL, pad_token_id=1)),
        FIRST,
    ),
    "distilbert": (lambda: hf.DistilBertForSequenceClassification(hf.DistilBertConfig(**DISTIL)), FIRST),
    "electra": (
        lambda: hf.ElectraForSequenceClassification(hf.ElectraConfig(**SIZES, **STILL, embedding_size=64)),
        FIRST,
    ),
    "albert": (
        lambda: hf.AlbertForSequenceClassification(
            hf.AlbertConfig(**SIZES, **STILL, embedding_size=64, classifier_dropout_prob=0.0)
        ),
        "packed",
    ),
    "modernbert": (
        lambda: hf.ModernBertForSequenceClassification(hf.ModernBertConfig(**MODERN, classifier_pooling="mean")),
        "packed",
    ),
    "llama": (lambda: hf.LlamaForSequenceClassification(hf.LlamaConfig(**SIZES, **GROUPED)), "packed"),
    "qwen3": (lambda: hf.Qwen3ForSequenceClassification(hf.Qwen3Config(**SIZES, **GROUPED, head_dim=16)), "packed"),
    "gpt2": (lambda: hf.GPT2ForSequenceClassification(hf.GPT2Config(**GPT2)), "packed"),
    "t5": (lambda: hf.T5ForSequenceClassification(hf.T5Config(**T5)), "packed"),
    "bart": (lambda: hf.BartForSequenceClassification(hf.BartConfig(**BART)), "packed"),
    "our encoder": (
        lambda: heads.TransformerForSequenceClassification(TransformerConfig(architecture="encoder", **OWN)),
        "packed",
    ),
    "our decoder": (
        lambda: heads.TransformerForSequenceClassification(TransformerConfig(architecture="decoder", **OWN)),
        "packed",
    ),
    "deberta-v2": (lambda: hf.DebertaV2ForSequenceClassification(hf.DebertaV2Config(**DEBERTA)), "padded"),
    "mpnet": (lambda: hf.MPNetForSequenceClassification(hf.MPNetConfig(**SIZES, **STILL)), "padded"),
    "mixing": (lambda: Mixing(hf.BertConfig(**SIZES, **STILL)), "padded"),
}


def built(name: str) -> nn.Module:
    """The model of a family, its weights drawn by a fixed seed."""
    torch.manual_seed(0)
    return FAMILIES[name][0]()
