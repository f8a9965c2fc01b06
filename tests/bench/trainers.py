"""The plain Hugging Face way as contenders: `transformers.Trainer` with what a user would choose for padding.

All take the same rows, batch size, AdamW, learning rate, weight decay and clipping as our engine does, log and save
nothing, and see batches in an order of their own; padding to a fixed length and dynamic padding see the same batches.
"""

import tempfile
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal

import datasets
import torch
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)
from transformers.trainer_pt_utils import get_length_grouped_indices

from tasks.data.shards import Shard
from tasks.recipe import Train
from tests.bench.data import LENGTH
from tests.bench.ours import WARM
from tests.bench.paired import READY, HandBack, Taken, stepwise

Padding = Literal["fixed", "dynamic", "grouped"]

MEGABATCH = 50  # batches that group_by_length sorts together on a dataset of 200 batches and more


class Collator:
    """Pads rows, and notes what it was given; a loader fetches ahead of the step, but in its order."""

    def __init__(self, tokenizer: Any, padding: Padding, longest: int) -> None:
        fixed: dict[str, Any] = {"padding": "max_length", "max_length": longest} if padding == "fixed" else {}
        self.pad = DataCollatorWithPadding(tokenizer, **fixed)
        self.given: deque[Taken] = deque()

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        self.given.append(Taken(len(rows), sum(len(row["input_ids"]) for row in rows)))
        return self.pad(rows)


class Baton(TrainerCallback):
    """Hands back after set-up and after each step."""

    def __init__(self, hand_back: HandBack, given: deque[Taken]) -> None:
        self.hand_back, self.given = hand_back, given

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self.hand_back(READY)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.hand_back(self.given.popleft())


class Grouped(Trainer):
    """`group_by_length` as it is on a large dataset: on the few rows of a bench it would sort a quarter at a time."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(train_dataset)
        return get_length_grouped_indices(sampler.lengths, sampler.batch_size, mega_batch_mult=MEGABATCH)


def steps(
    model: PreTrainedModel, shard: Shard, how: Train, padding: Padding, tokenizer: Any, device: str = "cpu"
) -> Iterator[Taken]:
    """All epochs over the rows of a shard."""

    longest = min(LENGTH, model.config.max_position_embeddings)

    def train(hand_back: HandBack) -> None:
        with tempfile.TemporaryDirectory() as folder:
            warm_up = trainer(
                model, rows, how, Collator(tokenizer, padding, longest), padding, folder, device, steps=WARM
            )
            warm_up.train()
            collator = Collator(tokenizer, padding, longest)
            measured = trainer(model, rows, how, collator, padding, folder, device)
            measured.add_callback(Baton(hand_back, collator.given))
            measured.train()

    ids = [shard.row(row)[0].tolist() for row in range(len(shard))]
    rows = datasets.Dataset.from_dict(
        {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids], "labels": shard.labels.tolist()}
    )
    return stepwise(train)


def trainer(
    model: PreTrainedModel,
    rows: datasets.Dataset,
    how: Train,
    collator: Collator,
    padding: Padding,
    folder: str,
    device: str,
    steps: int = -1,
) -> Trainer:
    """A Trainer that does what `how` says and nothing besides; `steps` cuts it short."""
    made: Trainer = (Grouped if padding == "grouped" else Trainer)(
        model,
        TrainingArguments(
            folder,
            per_device_train_batch_size=how.batch,
            num_train_epochs=how.epochs,
            max_steps=steps,
            learning_rate=how.learning_rate,
            lr_scheduler_type=how.schedule,
            weight_decay=how.weight_decay,
            max_grad_norm=how.clip,
            seed=how.seed,
            bf16=how.precision == "bf16",
            use_cpu=device == "cpu",
            dataloader_pin_memory=device != "cpu",
            train_sampling_strategy="group_by_length" if padding == "grouped" else "random",
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=rows,
        data_collator=collator,
    )
    made.remove_callback(PrinterCallback)
    return made


def freeze(model: PreTrainedModel, top: int) -> PreTrainedModel:
    """A BERT with its embeddings and all but the `top` layers frozen; their dropout stays, as a Trainer leaves it."""
    layers = model.base_model.encoder.layer
    for part in (model.base_model.embeddings, *layers[: len(layers) - top]):
        part.requires_grad_(False)
    return model


def trained(model: torch.nn.Module) -> int:
    """Parameters that training changes."""
    return sum(each.numel() for each in model.parameters() if each.requires_grad)
