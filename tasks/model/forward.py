"""How a model computes a batch: packed where that was seen to give the same, else padded.

Before the first batch a ragged probe goes through the model packed and padded, in its own numbers and without dropout:
the outputs, and the gradient of the deepest parameter that learns, must agree, and every layer must have asked for its
attention. What mixes rows by any means (DeBERTa-v2's own attention, Mamba's running state, a batch norm) is caught and
computed padded, in batches of rows of near length.
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from tasks.data import batches
from tasks.data.shards import Shard
from tasks.model import architectures, hardware, sharding
from tasks.model.attention import Hooks, Unpackable
from tasks.model.own import Own
from tasks.model.packing import Pack

if TYPE_CHECKING:
    from tasks.model.prefix import Prefix

Way = Literal["packed, last layer at first positions", "packed", "padded"]

RAGGED = (5, 17, 2, 12, 9)  # tokens of the probe's rows
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}  # of the largest number

log = logging.getLogger("vernal.forward")


class Forward:
    """A model with the fastest way of computing it that was seen to be right.

    Args:
        precision: fp32, or bf16 for products in that precision.
        way: this one, unproved; none: the first that passes the probe.
    """

    def __init__(self, model: PreTrainedModel, device: str, precision: str = "fp32", way: Way | None = None) -> None:
        self.model, self.device, self.precision = model, device, precision
        self.pad = model.config.pad_token_id or 0
        self.still: list[nn.Module] = []  # parts that do not learn, and drop nothing out
        self.prefix: Prefix | None = None
        self.hooks: Hooks | None = None
        self.way: Way = way or proved(model, device)
        if self.packs:
            self.hooks = hooked(model, self.way)

    @property
    def packs(self) -> bool:
        """Whether padding costs nothing, so that rows of any lengths may come together."""
        return self.way != "padded"

    def batch(self, shard: Shard, rows: batches.Rows) -> batches.Batch:
        """Rows of a shard, with what is known of them already."""
        found = batches.padded(shard, rows, self.pad)
        return found if self.prefix is None else found._replace(states=self.prefix.of(shard, rows))

    def __call__(self, batch: batches.Batch) -> torch.Tensor:
        """Logits in float32, (rows, labels), or (rows, longest, labels) where tokens are labelled."""
        packed = Pack(batch.lengths, self.device) if self.packs else None
        if packed and batch.states is not None:
            packed.kept = hardware.sent(batch.states, self.device)[None]
        with hardware.arithmetic(self.precision, self.device):
            return _logits(self.model, batch, packed, self.device).float()

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


def proved(model: PreTrainedModel, device: str) -> Way:
    """The first way whose outputs and gradient are those of the padded one."""
    ragged = probe(model)
    learns = model.training
    model.eval()  # type: ignore[no-untyped-call]
    if isinstance(model, Own):  # a module of the user's own is computed as its contract says
        with torch.no_grad():
            _logits(model, ragged, None, device)
        model.train(learns)
        return "padded"
    expected = _answer(model, ragged, None, device)
    ways: tuple[Way, ...] = get_args(Way)
    found = next((way for way in ways[:-1] if _agrees(model, way, ragged, expected, device)), ways[-1])
    model.train(learns)
    return found


def hooked(model: PreTrainedModel, way: Way) -> Hooks:
    """The hooks of a packed way."""
    return Hooks(model, first_only=way != "packed")


Answer = tuple[torch.Tensor, torch.Tensor]  # logits where there is a token, and a gradient


def _agrees(model: PreTrainedModel, way: Way, ragged: batches.Batch, expected: Answer, device: str) -> bool:
    packed = Pack(ragged.lengths, device)
    try:
        hooks = hooked(model, way)
    except Unpackable:
        return False
    try:
        found = _answer(model, ragged, packed, device)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # stock models fail in ways of their own where they cannot
        log.debug("not %s: %s", way, error)
        return False
    finally:
        hooks.remove()
    return packed.asked >= model.config.num_hidden_layers and all(map(_near, found, expected))


def _answer(model: PreTrainedModel, ragged: batches.Batch, packed: Pack | None, device: str) -> Answer:
    deepest = next(each for each in model.parameters() if each.requires_grad)
    logits = _logits(model, ragged, packed, device)
    if logits.dim() == 3:
        logits = logits[hardware.sent(ragged.mask, device).bool()]
    weights = torch.linspace(-1, 1, logits.numel(), device=device).view_as(logits)  # no two outputs count the same
    (gradient,) = torch.autograd.grad((logits.float() * weights).sum(), deepest)
    return logits.detach(), gradient


def _near(found: torch.Tensor, expected: torch.Tensor) -> bool:
    if found.shape != expected.shape:
        return False
    off = (found - expected).abs().max()
    return bool(off <= TOLERANCE[expected.dtype] * expected.abs().max())


def _logits(model: PreTrainedModel, batch: batches.Batch, packed: Pack | None, device: str) -> torch.Tensor:
    ids, mask = (hardware.sent(each, device) for each in (batch.ids, batch.mask))
    travels: dict[str, Any] = {"packed": packed} if packed else {}
    if batch.types is not None and getattr(model.config, "type_vocab_size", 0) > 1:
        travels["token_type_ids"] = hardware.sent(batch.types, device)
    logits: torch.Tensor = model(input_ids=ids, attention_mask=mask, **travels).logits
    return logits


def probe(model: PreTrainedModel) -> batches.Batch:
    """Rows of ragged lengths, of ordinary tokens; each ends with the end token, where the model has one."""
    config = model.config
    lengths = np.minimum(RAGGED, _longest(model))
    named = (getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos", "cls", "sep"))
    ordinary = np.setdiff1d(np.arange(config.vocab_size), [each for each in named if isinstance(each, int)])
    tokens = np.random.default_rng(0).choice(ordinary, lengths.sum())
    ends = np.append(0, np.cumsum(lengths))
    if isinstance(config.eos_token_id, int):
        tokens[ends[1:] - 1] = config.eos_token_id
    rows = [tokens[a:b] for a, b in pairwise(ends)]
    return batches.of_rows(rows, pad=config.pad_token_id or 0)


def _longest(model: PreTrainedModel) -> int:
    return architectures.length_of(model.config) or max(RAGGED)
