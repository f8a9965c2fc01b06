"""Heads of every kind answer packed rows as transformers' own answer padded ones, with the losses they compute."""

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from torch.nn import functional
from transformers import PreTrainedModel

from tasks.data import batches
from tasks.data.corruption import Corruption
from tasks.data.shards import IGNORED, Shard
from tasks.model import loop, vocabulary
from tasks.model.forward import Forward
from tasks.model.learner import Learner
from tasks.model.losses import LOSSES
from tasks.model.transformer import TransformerConfig
from tasks.model.transformer import heads as ours
from tasks.problems.contract import Objective, Reads
from tests.tasks.model.families import BART, GPT2, GROUPED, MODERN, OWN, SIZES, STILL, T5
from tests.tasks.model.test_forward import STEPS, TRAIN, plain_losses

ROWS, CHOICES = 40, 3
CORRUPTION = Corruption(mask=4, vocabulary=300, special=(0, 1, 2, 3), seed=7)
Given = dict[str, torch.Tensor]


def ragged(lengths: Any, low: int = 5, high: int = 100, seed: int = 0) -> tuple[Any, Any]:
    """Token ids and offsets of sequences of these lengths."""
    draw = np.random.default_rng(seed)
    sizes = draw.integers(*lengths)
    return draw.integers(low, high, sizes.sum()).astype(np.uint16), np.append(0, np.cumsum(sizes))


def spoken() -> Shard:
    """Texts whose tokens each have the next as their label, but in their first half."""
    tokens, offsets = ragged((2, 41, ROWS))
    labels = np.append(tokens[1:], 0).astype(np.int32)
    for begin, end in pairwise(offsets):
        labels[end - 1] = IGNORED
        labels[begin : begin + (end - begin) // 2] = IGNORED
    return Shard(tokens, offsets, labels, "tokens")


def texts() -> Shard:
    return Shard(*ragged((2, 41, ROWS)), np.empty(0, np.int32), "none")


def translated(start: int) -> Callable[[], Shard]:
    """Texts with targets of other lengths, whose decoder begins with the token `start`."""

    def made() -> Shard:
        tokens, offsets = ragged((2, 25, ROWS), seed=1)
        inputs = np.append(start, tokens[:-1]).astype(np.uint16)
        inputs[offsets[:-1]] = start
        target = Shard(inputs, offsets, tokens.astype(np.int32), "tokens")
        return Shard(*ragged((2, 41, ROWS)), np.empty(0, np.int32), "none", target=target)

    return made


def segments(offsets: Any) -> Any:
    """Two segments in each sequence."""
    return np.concatenate([np.arange(size) >= size // 2 for size in np.diff(offsets)]).astype(np.uint8)


def pairs() -> Shard:
    tokens, offsets = ragged((2, 41, ROWS))
    return Shard(tokens, offsets, (tokens[offsets[:-1]] % 5).astype(np.int32), types=segments(offsets))


def questions() -> Shard:
    tokens, offsets = ragged((4, 41, ROWS))
    sizes = np.diff(offsets)
    spans = np.stack([sizes // 3, sizes // 2], 1).astype(np.int32)
    return Shard(tokens, offsets, spans, types=segments(offsets))


def choices(sizes: Any = (CHOICES,) * ROWS) -> Shard:
    sizes = np.array(sizes)
    tokens, offsets = ragged((2, 25, sizes.sum()))
    right = (np.arange(len(sizes)) % sizes).astype(np.int32)
    return Shard(tokens, offsets, right, types=segments(offsets), groups=np.append(0, np.cumsum(sizes)))


def stacked(batch: batches.Batch, *shape: int) -> Given:
    given = {"input_ids": batch.ids, "attention_mask": batch.mask}
    if batch.types is not None:
        given["token_type_ids"] = batch.types
    return {name: torch.from_numpy(each).reshape(*shape, each.shape[-1]) for name, each in given.items()}


def grid(batch: batches.Batch, labels: Any) -> torch.Tensor:
    """Labels of tokens, padded as stock models want them."""
    found = torch.full(batch.ids.shape, IGNORED)
    found[torch.from_numpy(batch.mask).bool()] = torch.from_numpy(labels)
    return found


def causal(batch: batches.Batch) -> Given:
    return {**stacked(batch, -1), "labels": grid(batch, batch.labels).roll(1, 1)}


def speaking(batch: batches.Batch) -> Given:
    assert batch.target
    return {**stacked(batch, -1), "labels": grid(batch.target, batch.labels)}


def masked(batch: batches.Batch) -> Given:
    labels = np.full(batch.lengths.sum(), IGNORED)
    labels[batch.read] = batch.labels
    return {**stacked(batch, -1), "labels": grid(batch, labels)}


def asked(batch: batches.Batch) -> Given:
    start, end = torch.from_numpy(batch.labels).unbind(1)
    return {**stacked(batch, -1), "start_positions": start, "end_positions": end}


def chosen(batch: batches.Batch) -> Given:
    return {**stacked(batch, -1, CHOICES), "labels": torch.from_numpy(batch.labels)}


def classified(batch: batches.Batch) -> Given:
    return {**stacked(batch, -1), "labels": torch.from_numpy(batch.labels)}


def stock_loss(model: PreTrainedModel, given: Given) -> torch.Tensor:
    """What transformers computes; but where answers start or end, it lets padding take part, which is hidden here.

    Choices are asked of its head for them, which has the weights of one for a single label.
    """
    if given["input_ids"].dim() == 3:
        of_choices = hf.BertForMultipleChoice(model.config)
        return torch.func.functional_call(of_choices, dict(model.named_parameters()), kwargs=given).loss
    out = model(**given)
    if "start_logits" not in out:
        return out.loss
    hidden = ~given["attention_mask"].bool()
    sides = [out[f"{side}_logits"].masked_fill(hidden, -torch.inf) for side in ("start", "end")]
    places = [given[f"{side}_positions"] for side in ("start", "end")]
    return sum(map(functional.cross_entropy, sides, places)) / 2


class Headed(Objective):
    """What a head answers, and by which loss."""

    def __init__(self, reads: Reads, loss: str) -> None:
        self.reads, self.loss = reads, loss  # type: ignore[misc]

    def reduced(self, logits: Any, batch: Any) -> Any:
        return logits.argmax(-1) if self.loss == "cross_entropy" else torch.zeros(len(batch.labels))


@dataclass(frozen=True)
class Head:
    model: Callable[[], PreTrainedModel]
    rows: Callable[[], Shard]
    stock: Callable[[batches.Batch], Given]  # what transformers is called with, so that it computes the loss
    reads: Reads = "read"
    loss: str = "cross_entropy"
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def objective(self) -> Objective:
        return Headed(self.reads, self.loss)

    def built(self) -> PreTrainedModel:
        torch.manual_seed(0)
        return self.model()


def own(architecture: Any) -> TransformerConfig:
    """Drawn smaller than the others: its embeddings are scaled, and 20 steps let rounding grow with the losses."""
    return TransformerConfig(**{**OWN, "architecture": architecture, "initializer_range": 0.1})


def untied() -> PreTrainedModel:
    """A T5 1.1: its head is a matrix of its own, and takes the states as they are."""
    model = hf.T5ForConditionalGeneration(hf.T5Config(**T5, tie_word_embeddings=False))
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().flip(0).clone())
    return model


MASKED: dict[str, Any] = {"how": {"corruption": CORRUPTION}}
HEADS = {
    "llama": Head(lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES, **GROUPED)), spoken, causal),
    "gpt2": Head(lambda: hf.GPT2LMHeadModel(hf.GPT2Config(**GPT2)), spoken, causal),
    "bert": Head(lambda: hf.BertForMaskedLM(hf.BertConfig(**SIZES, **STILL)), texts, masked, **MASKED),
    "modernbert": Head(lambda: hf.ModernBertForMaskedLM(hf.ModernBertConfig(**MODERN)), texts, masked, **MASKED),
    "t5": Head(lambda: hf.T5ForConditionalGeneration(hf.T5Config(**T5)), translated(0), speaking),
    "t5-untied": Head(untied, translated(0), speaking),
    "bart": Head(lambda: hf.BartForConditionalGeneration(hf.BartConfig(**BART)), translated(2), speaking),
    "our encoder": Head(lambda: ours.TransformerForMaskedLM(own("encoder")), texts, masked, **MASKED),
    "our decoder": Head(lambda: ours.TransformerForCausalLM(own("decoder")), spoken, causal),
    "our two stacks": Head(lambda: ours.TransformerForSeq2SeqLM(own("encoder-decoder")), translated(1), speaking),
    "questions": Head(
        lambda: hf.BertForQuestionAnswering(hf.BertConfig(**{**SIZES, "num_labels": 2}, **STILL)),
        questions,
        asked,
        "tokens",
        "span",
    ),
    "choices": Head(
        lambda: hf.BertForSequenceClassification(hf.BertConfig(**{**SIZES, "num_labels": 1}, **STILL)),
        choices,
        chosen,
        "rows",
        "choice",
    ),
    "pairs": Head(lambda: hf.BertForSequenceClassification(hf.BertConfig(**SIZES, **STILL)), pairs, classified, "rows"),
}


@pytest.mark.parametrize("name", HEADS)
def test_logits_and_loss_are_those_of_transformers_for_padded_rows(name: str) -> None:
    head = HEADS[name]
    model, shard, rows = head.built().eval(), head.rows(), np.arange(3, 15)
    forward = Forward(model, "cpu", reads=head.reads, **head.how)
    assert forward.packs
    batch = forward.batch(shard, rows)
    with torch.no_grad():
        logits = forward(batch)
        forward.release()
        padded = Forward(model, "cpu", way="padded", reads=head.reads)(batch)
        whole = batches.padded(shard, rows, forward.pad) if "corruption" not in head.how else batch
        stock = stock_loss(model, head.stock(whole))
    assert (logits - padded).abs().max() <= 1e-5
    loss = LOSSES[head.loss](logits, batch, 0.0) / loop.labels_of(shard, rows, forward.corruption)
    assert float(loss) == pytest.approx(float(stock), abs=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_twenty_steps_have_the_losses_that_transformers_computes_for_padded_rows(name: str) -> None:
    head, shard = HEADS[name], HEADS[name].rows()

    def stock(model: PreTrainedModel, data: Shard, rows: batches.Rows, epoch: int) -> torch.Tensor:
        batch = batches.padded(data, rows, model.config.pad_token_id or 0)
        if "corruption" in head.how:
            batch = CORRUPTION.of(batch, rows, epoch)
        return stock_loss(model, head.stock(batch))

    expected = plain_losses(head.built(), shard, stock)
    learner = Learner(head.built(), shard, TRAIN, "cpu", objective=head.objective, **head.how)
    assert learner.forward.packs
    steps = loop.steps(learner, loop.Plan(shard, TRAIN, **head.how), loop.Progress())
    found = [float(step.loss) for step, _ in zip(steps, range(STEPS), strict=False)]
    assert expected[0] > 1.1 * min(expected)
    assert np.abs(np.subtract(found, expected)).max() <= 1e-5


@pytest.mark.parametrize("name", HEADS)
def test_parts_of_a_batch_have_the_loss_of_the_whole(name: str) -> None:
    head, shard = HEADS[name], HEADS[name].rows()
    found = []
    for micro_batch in (None, 1, 3):
        how = TRAIN.model_copy(update={"micro_batch": micro_batch})
        learner = Learner(head.built(), shard, how, "cpu", objective=head.objective, **head.how)
        step = next(loop.steps(learner, loop.Plan(shard, how, **head.how), loop.Progress()))
        found.append(float(step.loss))
    assert found[1:] == pytest.approx([found[0]] * 2, abs=1e-5)


def test_rows_may_have_choices_of_any_number() -> None:
    head, shard = HEADS["choices"], choices((2, 5, 1, 3))
    model = head.built().eval()
    forward = Forward(model, "cpu", reads="rows")
    batch = forward.batch(shard, np.array([3, 0, 1]))
    with torch.no_grad():
        logits = forward(batch)
    assert logits.shape == (10, 1)
    expected = []
    forward.release()
    for row, size in ((3, 3), (0, 2), (1, 5)):
        alone = batches.padded(shard, np.array([row]), 0)
        with torch.no_grad():
            given = {**stacked(alone, -1, size), "labels": torch.from_numpy(alone.labels)}
            expected.append(stock_loss(model, given))
    assert float(LOSSES["choice"](logits, batch)) == pytest.approx(float(sum(expected)), abs=1e-5)


def test_a_row_without_a_label_costs_no_product_with_the_vocabulary_and_has_a_gradient_of_zero() -> None:
    shard = spoken()
    silent = Shard(shard.tokens, shard.offsets, np.full_like(shard.labels, IGNORED), "tokens")
    learner = Learner(HEADS["llama"].built(), silent, TRAIN, "cpu", objective=HEADS["llama"].objective)
    seen: list[tuple[int, ...]] = []
    learner.model.lm_head.register_forward_hook(lambda _, _given, out: seen.append(tuple(out.shape)))
    loss = learner.loss(learner.forward.batch(silent, np.arange(4)), 0)
    loss.backward()
    assert seen == [(1, 0, 300)]
    assert float(loss.detach()) == 0
    assert all(not each.any() for each in learner.gradients)


@pytest.mark.parametrize("name", [name for name in HEADS if HEADS[name].reads == "read"])
def test_the_head_is_computed_where_there_is_a_label_and_nowhere_else(name: str) -> None:
    head, shard = HEADS[name], HEADS[name].rows()
    model = head.built()
    forward = Forward(model, "cpu", reads="read", **head.how)
    seen: list[tuple[int, ...]] = []
    model.get_output_embeddings().register_forward_hook(lambda _, _given, out: seen.append(tuple(out.shape)))
    batch = forward.batch(shard, np.arange(8))
    forward(batch)
    assert seen == [(1, len(batch.labels), 300)]
    assert len(batch.labels) == loop.labels_of(shard, np.arange(8), forward.corruption)


@pytest.mark.parametrize("name", HEADS)
def test_evaluation_in_batches_is_that_of_each_row_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    head, shard = HEADS[name], HEADS[name].rows()
    forward = Forward(head.built(), "cpu", reads=head.reads, **head.how)
    together = loop.evaluate(forward, shard, objective=head.objective)
    monkeypatch.setitem(batches.AT_ONCE, "cpu", 1)
    alone = loop.evaluate(forward, shard, objective=head.objective)
    assert together[0] == pytest.approx(alone[0], abs=1e-5)
    assert (together[1] == alone[1]).all()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["llama", "gpt2", "t5", "bart"])
def test_only_an_embedding_that_nothing_shares_is_narrowed(name: str, tied: bool) -> None:
    """Those of T5 and BART are their stacks' as well, or are not read at all, where the stacks have others."""
    config = HEADS[name].built().config
    config.tie_word_embeddings = tied
    model = type(HEADS[name].built())(config)
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) == tied
    assert (vocabulary.narrow(model, np.array([5, 9])) is not None) == (not tied and not config.is_encoder_decoder)


def mixed_up(model: PreTrainedModel) -> PreTrainedModel:
    """The decoder's states lose the mean of the batch, so that its rows see each other."""
    stack = model.get_decoder() if model.config.is_encoder_decoder else model.base_model
    lists = [each for each in stack.modules() if isinstance(each, torch.nn.ModuleList)]
    layer = max(lists, key=len)[0]
    layer.register_forward_pre_hook(lambda _, given: (given[0] - given[0].mean(1, keepdim=True), *given[1:]))
    return model


@pytest.mark.parametrize("name", ["gpt2", "t5", "questions"])
def test_a_head_over_states_that_mix_rows_is_computed_padded(name: str) -> None:
    model = mixed_up(HEADS[name].built())
    assert Forward(model, "cpu", reads=HEADS[name].reads).way == "padded"


@pytest.mark.parametrize("name", ["t5", "bart", "gpt2"])
def test_layers_computed_again_see_their_own_rows_and_targets(name: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        head = HEADS[name]
        model, shard = head.built().train(), head.rows()
        forward = Forward(model, "cpu", reads=head.reads)
        if checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        parts = [forward.batch(shard, np.arange(begin, begin + 4)) for begin in (0, 4)]
        sum(LOSSES[head.loss](forward(part), part, 0.0) for part in parts).backward()
        gradients.append(torch.cat([each.grad.flatten() for each in model.parameters() if each.grad is not None]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)


def test_a_decoder_of_long_and_short_rows_crosses_in_stretches() -> None:
    draw = np.random.default_rng(0)
    sizes, targets = draw.permutation(np.repeat([4, 120], 20)), draw.permutation(np.repeat([3, 100], 20))
    model = HEADS["t5"].built().eval()
    rows, answers = ([draw.integers(5, 300, size) for size in each] for each in (sizes, targets))
    batch = batches.of_rows(rows, 0, target=batches.of_rows(answers, 0))
    forward = Forward(model, "cpu", reads="read")
    with torch.no_grad():
        packed = forward(batch)
        forward.release()
        padded = Forward(model, "cpu", way="padded", reads="read")(batch)
    assert (packed - padded).abs().max() <= 1e-5 * max(1, float(padded.abs().max()))
