"""Models: a body with a head for each task, from weights or drawn at random from a config.

`encoder` is a ModernBERT stack (Warner et al. 2024) with global attention: pre-norm, rotary positions, and a head that
reads the mean over all tokens.
"""

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedModel,
    logging,
)

from tasks.errors import BadInput
from tasks.model import own
from tasks.recipe import Architecture, Task

logging.set_verbosity_error()  # type: ignore[no-untyped-call]
logging.disable_progress_bar()  # type: ignore[no-untyped-call]

HEADS: dict[Task, Any] = {
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
}
SHIFTED = {  # RoBERTa and its kin count positions from the padding id on
    "camembert",
    "data2vec-text",
    "ibert",
    "longformer",
    "luke",
    "mpnet",
    "roberta",
    "roberta-prelayernorm",
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
}


def config_of(architecture: Architecture) -> PretrainedConfig:
    """The config of an architecture; vocabulary and length are settled when its tokenizer is known."""
    if architecture.d_model % (2 * architecture.num_heads):
        raise BadInput(
            "E-MODEL-CONFIG",
            f"model.base.d_model {architecture.d_model} with num_heads {architecture.num_heads}: "
            "the width of a head must be a whole, even number",
        )
    return ModernBertConfig(
        num_hidden_layers=architecture.num_layers,
        hidden_size=architecture.d_model,
        num_attention_heads=architecture.num_heads,
        intermediate_size=architecture.dff or 4 * architecture.d_model,
        embedding_dropout=architecture.dropout,
        attention_dropout=architecture.dropout,
        mlp_dropout=architecture.dropout,
        classifier_dropout=architecture.dropout,
        layer_types=["full_attention"] * architecture.num_layers,
        classifier_pooling="mean",
    )


def length_of(config: PretrainedConfig) -> int | None:
    """Tokens of the longest row that a model takes; None: no limit."""
    positions = getattr(config, "max_position_embeddings", None)
    if positions is None or positions <= 0:
        return None
    return int(positions) - (config.pad_token_id + 1 if config.model_type in SHIFTED else 0)


def initialised(
    folder: Path,
    task: Task,
    labels: tuple[str, ...],
    *,
    special: dict[str, int],
    vocabulary: int,
    length: int,
    seed: int,
) -> PreTrainedModel:
    """The architecture in `folder/config.json` with a head for `labels`, every weight drawn by the seed.

    Args:
        special: ids of the tokenizer's special tokens pad, cls and sep.
        vocabulary: number of token ids.
        length: longest row in tokens.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config.update({f"{name}_token_id": number for name, number in special.items()})
    config.update({"bos_token_id": special["cls"], "eos_token_id": special["sep"]})
    config.update({"vocab_size": vocabulary, "max_position_embeddings": length})
    return _drawn(config, task, labels, seed)


def pretrained(folder: Path, task: Task, labels: tuple[str, ...], *, seed: int) -> PreTrainedModel:
    """The weights in `folder` with a head for `labels`: its own if it was made for them, else one drawn by the seed."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    theirs = tuple(config.id2label[number] for number in sorted(config.id2label))
    _name(config, labels)
    torch.manual_seed(seed)
    if isinstance(config, own.OwnConfig):
        return own.built(folder, config)
    model: PreTrainedModel = HEADS[task].from_pretrained(
        folder,
        config=config,
        attn_implementation="sdpa",
        dtype=torch.float32,
        ignore_mismatched_sizes=True,
        use_safetensors=True,
        local_files_only=True,
    )
    if theirs == labels:
        return model
    fresh = _drawn(config, task, labels, seed)
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh


def settled(
    folder: Path, task: Task, labels: tuple[str, ...], *, vocabulary: int, length: int, pad: int, seed: int
) -> PreTrainedModel:
    """The user's own module in `folder`; what its config does not say yet is said by the tokenised rows."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config.vocab_size = config.vocab_size or vocabulary
    config.max_position_embeddings = config.max_position_embeddings or length
    config.update({"pad_token_id": pad, "per_token": task == "token-classification"})
    _name(config, labels)
    torch.manual_seed(seed)
    return own.built(folder, config)


def _drawn(config: PretrainedConfig, task: Task, labels: tuple[str, ...], seed: int) -> PreTrainedModel:
    _name(config, labels)
    torch.manual_seed(seed)
    model: PreTrainedModel = HEADS[task].from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    return model


def _name(config: PretrainedConfig, labels: tuple[str, ...]) -> None:
    numbers: dict[str, Any] = {"label2id": {label: number for number, label in enumerate(labels)}}
    config.update({"id2label": dict(enumerate(labels)), **numbers})
