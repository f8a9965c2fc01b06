"""Models: a body with a head for each task, from weights or drawn at random from a config.

Those that have no weights yet are our own, in `tasks.model.transformer`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    AutoConfig,
    PretrainedConfig,
    PreTrainedModel,
    logging,
)

from tasks import problems
from tasks.errors import BadInput
from tasks.model import own
from tasks.model.transformer import TransformerConfig
from tasks.problems import Problem
from tasks.recipe import Architecture, Task

logging.set_verbosity_error()  # type: ignore[no-untyped-call]
logging.disable_progress_bar()  # type: ignore[no-untyped-call]

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
    try:
        return TransformerConfig(**architecture.model_dump() | {"dff": architecture.dff or 4 * architecture.d_model})
    except ValueError as error:
        raise BadInput("E-MODEL-CONFIG", f"model.base: {error}") from error


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

    Raises:
        BadInput: E-MODEL-TASK, the architecture has no such head.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config.update({f"{name}_token_id": number for name, number in special.items()})
    config.update({"bos_token_id": special["cls"], "eos_token_id": special["sep"]})
    config.update({"decoder_start_token_id": special["cls"] if config.is_encoder_decoder else None})
    config.update({"vocab_size": vocabulary, "max_position_embeddings": length})
    with _headed(config, task):
        return _drawn(config, problems.named(task), labels, seed)


def pretrained(folder: Path, task: Task, labels: tuple[str, ...], *, seed: int) -> PreTrainedModel:
    """The weights in `folder` with a head for `labels`: its own if it was made for them, else one drawn by the seed.

    Raises:
        BadInput: E-MODEL-TASK, transformers has no such head for the model.
    """
    problem = problems.named(task)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    theirs = tuple(config.id2label[number] for number in sorted(config.id2label))
    _name(config, problem, labels)
    torch.manual_seed(seed)
    if isinstance(config, own.OwnConfig):
        return own.built(folder, config)
    model, _ = _loaded(folder, config, problem, task)
    if theirs == _outputs(problem, labels) or not problem.outputs(labels):
        return model
    fresh = _drawn(config, problem, labels, seed)
    fresh.base_model.load_state_dict(model.base_model.state_dict())
    return fresh


def answers_already(folder: Path, task: Task, labels: tuple[str, ...]) -> bool:
    """Whether the weights in `folder` have a head for these labels, so that the model can be asked as it is."""
    problem = problems.named(task)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    theirs = tuple(config.id2label[number] for number in sorted(config.id2label))
    if isinstance(config, own.OwnConfig) or (problem.outputs(labels) and theirs != _outputs(problem, labels)):
        return False
    _name(config, problem, labels)
    _, whole = _loaded(folder, config, problem, task)
    return whole


def settled(
    folder: Path, task: Task, labels: tuple[str, ...], *, vocabulary: int, length: int, pad: int, seed: int
) -> PreTrainedModel:
    """The user's own module in `folder`; what its config does not say yet is said by the tokenised rows."""
    problem = problems.named(task)
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    config.vocab_size = config.vocab_size or vocabulary
    config.max_position_embeddings = config.max_position_embeddings or length
    config.update({"pad_token_id": pad, "per_token": problem.at == "tokens"})
    _name(config, problem, labels)
    torch.manual_seed(seed)
    return own.built(folder, config)


def _loaded(folder: Path, config: PretrainedConfig, problem: Problem, task: Task) -> tuple[PreTrainedModel, bool]:
    """The model with a head for the problem, and whether every weight of it was there."""
    with _headed(config, task):
        model, found = _head(problem).from_pretrained(
            folder,
            config=config,
            attn_implementation="sdpa",
            dtype=torch.float32,
            ignore_mismatched_sizes=True,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    return model, not found["missing_keys"] and not found["mismatched_keys"]


def _drawn(config: PretrainedConfig, problem: Problem, labels: tuple[str, ...], seed: int) -> PreTrainedModel:
    _name(config, problem, labels)
    torch.manual_seed(seed)
    model: PreTrainedModel = _head(problem).from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    return model


@contextmanager
def _headed(config: PretrainedConfig, task: Task) -> Iterator[None]:
    """Where transformers has no head of a kind for a model, an answer with a code."""
    try:
        yield
    except ValueError as error:
        message = f"a {config.model_type} cannot learn {task}: {error!s:.150}; take another base"
        raise BadInput("E-MODEL-TASK", message) from error


def _head(problem: Problem) -> Any:
    return getattr(transformers, problem.head)


def _name(config: PretrainedConfig, problem: Problem, labels: tuple[str, ...]) -> None:
    names = dict(enumerate(_outputs(problem, labels)))
    numbers: dict[str, Any] = {"label2id": {name: number for number, name in names.items()}}
    config.update({"id2label": names, "problem_type": problem.problem_type, **numbers})


def _outputs(problem: Problem, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The names of the outputs: the labels, or those that transformers gives where there are none."""
    return labels or tuple(f"LABEL_{number}" for number in range(problem.outputs(labels)))
