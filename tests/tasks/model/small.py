"""Rows that are learned in a few steps, and models of one layer to learn them."""

from typing import Any

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, PreTrainedModel

from tasks import problems
from tasks.data.shards import IGNORED, Shard
from tasks.model import architectures, loop
from tasks.model.learner import Learner
from tasks.problems.contract import PLAIN, Objective
from tasks.recipe import Architecture, Train

LABELS = ("rose", "tulip", "weed")
VOCABULARY = 60
SPECIAL = {"pad": 0, "cls": 2, "sep": 3}


def shard(rows: int = 45, seed: int = 0) -> Shard:
    """Rows of 3 to 12 tokens; a row's label is told by its second token."""
    draw = np.random.default_rng(seed)
    texts = [np.array([2, *draw.integers(5, VOCABULARY, draw.integers(1, 11)), 3], np.uint16) for _ in range(rows)]
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return Shard(np.concatenate(texts), offsets, np.array([text[1] % 3 for text in texts], np.int32))


def tagged(rows: int = 45, seed: int = 0) -> Shard:
    """The same rows with a label at each token but the special ones, so that rows have unequal numbers of labels."""
    plain = shard(rows, seed)
    labels = np.where(plain.tokens >= 5, plain.tokens.astype(np.int32) % 3, np.int32(IGNORED))
    return Shard(plain.tokens, plain.offsets, labels, "tokens")


def encoder(folder: Any, task: Any = "text-classification", dropout: float = 0.1) -> PreTrainedModel:
    """Our own architecture, in one layer."""
    small = Architecture(architecture="encoder", num_layers=1, d_model=16, num_heads=2, dropout=dropout)
    architectures.config_of(small).save_pretrained(folder)
    return architectures.initialised(folder, task, LABELS, special=SPECIAL, vocabulary=VOCABULARY, length=16, seed=1)


def bert(dropout: float = 0.1) -> PreTrainedModel:
    """A BERT of one layer."""
    torch.manual_seed(1)
    return BertForSequenceClassification(
        BertConfig(
            num_hidden_layers=1,
            hidden_size=16,
            num_attention_heads=2,
            intermediate_size=32,
            vocab_size=VOCABULARY,
            max_position_embeddings=16,
            num_labels=len(LABELS),
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
        )
    )


def objective(data: Shard) -> Objective:
    """Whose labels these are."""
    return problems.named("token-classification") if data.at == "tokens" else PLAIN


def learner(model: PreTrainedModel, plan: loop.Plan) -> Learner:
    """The model, made to learn the rows of a plan."""
    return Learner(model, plan.shard, plan.how, "cpu", objective=objective(plan.shard))


def plan(data: Shard | None = None, **dials: Any) -> loop.Plan:
    """Three epochs of three steps, in fp32."""
    return loop.Plan(
        data or shard(), Train(**{"epochs": 3, "batch": 16, "learning_rate": 1e-2, "precision": "fp32", **dials})
    )


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """A copy of everything that is saved of a model."""
    return {name: each.detach().clone() for name, each in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether all weights are equal to the bit."""
    return one.keys() == other.keys() and all(torch.equal(each, other[name]) for name, each in one.items())
