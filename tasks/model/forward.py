"""How a model computes a batch: packed where that was seen to give the same, else padded.

Before the first batch a ragged probe goes through the model packed and padded, in its own numbers and without dropout:
the outputs, and the gradient of the deepest parameter that learns, must agree, and every layer must have asked for its
attention. What mixes rows by any means (DeBERTa-v2's own attention, Mamba's running state, a batch norm) is caught and
computed padded, in batches of rows of near length.

A head answers rows, tokens, or only those tokens that have a label. Its logits come flat, without padding, so losses
and predictions need not know how they were computed. Processor time of a gradient, 16 ragged rows, width 256, a
vocabulary of 8,000: a GPT-2 of 4 layers with a label at every fourth token takes 713 ms, packed with the head
everywhere 1,047, padded 1,710; T5 and BART of 4 and 4 layers 1,090 and 1,030, padded 1,664 and 1,609.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from tasks.data import batches
from tasks.data.corruption import Corruption
from tasks.data.shards import Shard
from tasks.model import architectures, hardware, sharding
from tasks.model.attention import Hooks, Unpackable
from tasks.model.own import Own
from tasks.model.packing import Pack
from tasks.problems.contract import Reads

if TYPE_CHECKING:
    from tasks.model.prefix import Prefix

Way = Literal["packed, last layer at first positions", "packed", "padded"]

RAGGED = (5, 17, 2, 12, 9)  # tokens of the probe's rows
TARGETS = (8, 3, 11, 2, 15)  # and of their targets
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # of the largest number

log = logging.getLogger("vernal.forward")


class Forward:
    """A model with the fastest way of computing it that was seen to be right.

    Args:
        precision: fp32, or bf16 for products in that precision.
        way: this one, unproved; none: the first that passes the probe.
        reads: what the head answers.
        corruption: of the rows of a masked language model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        device: str,
        precision: str = "fp32",
        way: Way | None = None,
        reads: Reads = "rows",
        corruption: Corruption | None = None,
    ) -> None:
        self.model, self.device, self.precision = model, device, precision
        self.reads, self.corruption = reads, corruption
        self.pad = model.config.pad_token_id or 0
        self.still: list[nn.Module] = []  # parts that do not learn, and drop nothing out
        self.prefix: Prefix | None = None
        self.hooks: Hooks | None = None
        self.way: Way = way or proved(model, device, reads)
        if self.packs:
            self.hooks = hooked(model, self.way, reads)

    @property
    def packs(self) -> bool:
        """Whether padding costs nothing, so that rows of any lengths may come together."""
        return self.way != "padded"

    def batch(self, shard: Shard, rows: batches.Rows, draw: int = 0) -> batches.Batch:
        """Rows of a shard, with what is known of them already.

        Args:
            draw: number of the epoch, from 1, in which they are learned from; 0: they are not.
        """
        found = batches.padded(shard, rows, self.pad)
        if self.corruption:
            return self.corruption.of(found, rows, draw)
        if self.reads == "read":
            found = batches.labelled(found)
        return found if self.prefix is None else found._replace(states=self.prefix.of(shard, rows))

    def __call__(self, batch: batches.Batch) -> torch.Tensor:
        """Logits in float32, (sequences, outputs), or (tokens, outputs), row after row, of all tokens or those read."""
        packed = packs(batch, self.device) if self.packs else None
        if packed and batch.states is not None:
            packed.kept = hardware.sent(batch.states, self.device)[None]
        with hardware.arithmetic(self.precision, self.device):
            return _logits(self.model, batch, packed, self.device, self.reads).float()

    def at_once(self, lengths: Sequence[int] | npt.NDArray[np.int64]) -> Iterator[batches.Rows]:
        """All rows, longest first, in the batches that are computed at once where nothing is learned."""
        return batches.by_budget(lengths, batches.AT_ONCE[self.device])

    @contextmanager
    def examined(self) -> Iterator[None]:
        """Without dropout and gradients, inside; in training again afterwards, if it was."""
        learns = self.model.training
        self.model.eval()  # type: ignore[no-untyped-call]
        try:
            # weights that come together in inference could not be trained with afterwards
            with torch.no_grad() if sharding.sharded(self.model) else torch.inference_mode():
                yield
        finally:
            self.train(learns)

    @contextmanager
    def unpacked(self) -> Iterator[PreTrainedModel]:
        """The stock model, inside, for what it does by itself, such as writing."""
        if self.hooks:
            self.hooks.remove()
        try:
            yield self.model
        finally:
            if self.packs:
                self.hooks = hooked(self.model, self.way, self.reads)

    def train(self, learns: bool = True) -> None:
        """Lets the parts that learn drop out, or not."""
        self.model.train(learns)
        for part in self.still:
            part.eval()

    def release(self) -> PreTrainedModel:
        """The stock model again."""
        if self.prefix:
            self.prefix.release()
            self.prefix = None
        if self.hooks:
            self.hooks.remove()
            self.hooks = None
        return self.model


def proved(model: PreTrainedModel, device: str, reads: Reads) -> Way:
    """The first way whose outputs and gradient are those of the padded one."""
    ragged = probe(model, reads)
    learns = model.training
    model.eval()  # type: ignore[no-untyped-call]
    if isinstance(model, Own):  # a module of the user's own is computed as its contract says
        with torch.no_grad():
            _logits(model, ragged, None, device, reads)
        model.train(learns)
        return "padded"
    expected = _answer(model, ragged, None, device, reads)
    ways: tuple[Way, ...] = get_args(Way)[reads != "rows" :]
    found = next((way for way in ways[:-1] if _agrees(model, way, ragged, expected, device, reads)), ways[-1])
    model.train(learns)
    return found


def hooked(model: PreTrainedModel, way: Way, reads: Reads) -> Hooks:
    """The hooks of a packed way."""
    return Hooks(model, tokens=reads != "rows", first_only=way != "packed")


def packs(batch: batches.Batch, device: str) -> Pack:
    """The places of a batch's tokens, of its targets' where it has some."""
    found = Pack(batch.lengths, device)
    if batch.target:
        found = Pack(batch.target.lengths, device, found)
    if batch.read is not None:
        found.read = hardware.sent(batch.read, device)
    return found


Answer = tuple[torch.Tensor, torch.Tensor]  # logits where there is a token, and a gradient


def _agrees(
    model: PreTrainedModel, way: Way, ragged: batches.Batch, expected: Answer, device: str, reads: Reads
) -> bool:
    packed = packs(ragged, device)
    try:
        hooks = hooked(model, way, reads)
    except Unpackable:
        return False
    try:
        found = _answer(model, ragged, packed, device, reads)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # stock models fail in ways of their own where they cannot
        log.debug("not %s: %s", way, error)
        return False
    finally:
        hooks.remove()
    return packed.asked >= model.config.num_hidden_layers and all(map(_near, found, expected))


def _answer(model: PreTrainedModel, ragged: batches.Batch, packed: Pack | None, device: str, reads: Reads) -> Answer:
    deepest = next(each for each in model.parameters() if each.requires_grad)
    logits = _logits(model, ragged, packed, device, reads)
    weights = torch.linspace(-1, 1, logits.numel(), device=device).view_as(logits)  # no two outputs count the same
    (gradient,) = torch.autograd.grad((logits.float() * weights).sum(), deepest)
    return logits.detach(), gradient


def _near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    off = (found - expected).abs().max()
    return bool(off <= TOLERANCE[expected.dtype] * expected.abs().max())


def _logits(
    model: PreTrainedModel, batch: batches.Batch, packed: Pack | None, device: str, reads: Reads
) -> torch.Tensor:
    travels = {"packed": packed} if packed else {}
    out = model(**given(model, batch, device), **travels)
    found: torch.Tensor = torch.stack([out.start_logits, out.end_logits], -1) if "start_logits" in out else out.logits
    if reads == "rows":
        return found
    if packed:
        return found[0]
    found = found[hardware.sent(batch.answered.mask, device).bool()]
    return found if batch.read is None else found[hardware.sent(batch.read, device)]


def given(model: PreTrainedModel, batch: batches.Batch, device: str) -> dict[str, torch.Tensor]:
    """What a model is called with."""
    found = {"input_ids": batch.ids, "attention_mask": batch.mask}
    if batch.types is not None and _segments(model) > 1:
        found["token_type_ids"] = batch.types
    if batch.target:
        found |= {"decoder_input_ids": batch.target.ids, "decoder_attention_mask": batch.target.mask}
    return {name: hardware.sent(each, device) for name, each in found.items()}


def probe(model: PreTrainedModel, reads: Reads = "rows") -> batches.Batch:
    """Rows of ragged lengths, of ordinary tokens; each ends with the end token, where the model has one.

    They have segments where the model tells such apart, and ragged targets where a decoder speaks.
    """
    config = model.config
    draw = np.random.default_rng(0)
    named = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "cls", "sep"))
    ordinary = np.setdiff1d(np.arange(config.vocab_size), [each for each in named if isinstance(each, int)])

    def ragged(lengths: Sequence[int], among: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        sizes = np.minimum(lengths, _longest(model))
        return np.split(draw.choice(among, sizes.sum()), np.cumsum(sizes)[:-1])

    rows, pad = ragged(RAGGED, ordinary), config.pad_token_id or 0
    if isinstance(config.eos_token_id, int):
        for row in rows:
            row[-1] = config.eos_token_id
    types = ragged(RAGGED, np.arange(2)) if _segments(model) > 1 else None
    target = None
    if reads == "read" and config.is_encoder_decoder:
        known = ordinary[ordinary < len(model.get_output_embeddings().weight)]  # type: ignore[no-untyped-call]
        target = batches.of_rows(ragged(TARGETS, known), pad)
    found = batches.of_rows(rows, pad, types, target)
    return found._replace(read=np.arange(0, found.answered.lengths.sum(), 2)) if reads == "read" else found


def _segments(model: PreTrainedModel) -> int:
    """How many kinds of segments a model tells apart."""
    return getattr(model.config, "type_vocab_size", None) or 0


def _longest(model: PreTrainedModel) -> int:
    return architectures.length_of(model.config) or max(RAGGED)
