"""Where the tokens of a batch lie when its rows stand one after another instead of side by side.

A batch of rows is padded to its longest one for the inputs and the head of a model (small tensors); between them every
layer sees the packed tokens only, so that no product is computed of padding: 60 % of what dynamic padding computes on
banking77 at batch 16. Attention alone needs the rows apart, and spreads its queries, keys and values for that moment,
rows of near lengths together: scores cost the square of the longest, which at batch 64 is four times the mean. A
decoder's rows that look at those of an encoder are spread beside them, both cut at the same rows.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from tasks.model import hardware

WORTH = 8192  # scores of a head that must be saved, for rows to be computed apart from longer ones


class Pack:
    """The places of the tokens of a batch.

    Args:
        lengths: tokens of each row, (rows,), in falling order where that can be; the rows are padded on the right to
            the longest of them.
        source: the rows that these look at, when they are a decoder's; none: those of its encoder are as long.
    """

    def __init__(
        self, lengths: Sequence[int] | npt.NDArray[np.int64], device: str = "cpu", source: "Pack | None" = None
    ) -> None:
        sizes = np.asarray(lengths, np.int64)
        self.sizes, self.device, self.source = sizes, device, source
        self.asked = 0  # how often attention was computed over these rows
        self.rows, self.longest, self.tokens = len(sizes), int(sizes.max()), int(sizes.sum())
        begins = np.cumsum(sizes) - sizes
        row = np.repeat(np.arange(self.rows), sizes)
        position = np.arange(self.tokens) - begins[row]
        inside = np.minimum(np.arange(self.longest), sizes[:, None] - 1)
        present = np.arange(self.longest) < sizes[:, None]
        self.row = self._sent(row)  # (tokens,) of each token
        self.position = self._sent(position)  # (tokens,) of each token in its row
        self.place = self._sent(row * self.longest + position)  # (tokens,) in the padded batch, counted row by row
        self.first = self._sent(begins)  # (rows,) where each row begins among the packed tokens
        self.filling = self._sent((begins[:, None] + inside).ravel())  # (rows x longest,) what stands at each place
        self.present = None if present.all() else self._sent(present)  # (rows, longest)
        self.read: torch.Tensor | None = None  # (labels,) which tokens a head reads; None: all
        self.states: torch.Tensor | None = None  # what came into a layer that goes on with first positions
        self.seen: list[torch.Tensor] = []  # its keys and values, (1, tokens, heads x width) each
        self.kept: torch.Tensor | None = None  # (1, tokens or rows, width) states of layers that need no computing

    def _sent(self, places: npt.NDArray[Any]) -> torch.Tensor:
        return hardware.sent(places, self.device)

    @cached_property
    def groups(self) -> "list[Stretch]":
        """Rows that look at themselves, in stretches of near lengths."""
        return _stretches(self, self)

    @cached_property
    def crossing(self) -> "list[Stretch]":
        """Rows that look at their source, in stretches of near lengths."""
        return _stretches(self, self.source or self)

    def cut(self, edges: Sequence[int]) -> "list[tuple[slice, Pack]]":
        """The packed tokens between these rows, each stretch with the places of its own."""
        if len(edges) == 2:
            return [(slice(None), self)]
        ends = np.append(0, np.cumsum(self.sizes))
        return [(slice(int(ends[a]), int(ends[b])), Pack(self.sizes[a:b], self.device)) for a, b in pairwise(edges)]

    def pack(self, padded: torch.Tensor) -> torch.Tensor:
        """(rows, longest, ...) to (1, tokens, ...)."""
        return padded.flatten(0, 1).index_select(0, self.place)[None]

    def unpack(self, packed: torch.Tensor) -> torch.Tensor:
        """(1, tokens, ...) to (rows, longest, ...), zero where there is no token."""
        flat = packed.new_zeros(self.rows * self.longest, *packed.shape[2:]).index_copy(0, self.place, packed[0])
        return flat.view(self.rows, self.longest, *packed.shape[2:])

    def apart(self, states: torch.Tensor) -> torch.Tensor:
        """Queries, keys or values (1, heads, tokens, width) to (rows, heads, longest, width), row from row.

        Anything finite stands where there is no token: a mask hides it, and nothing comes back from there. One gather
        does it, where zeros and a copy to places would be two.
        """
        heads, width = states.shape[1], states.shape[3]
        flat = states[0].transpose(0, 1).reshape(self.tokens, heads * width)
        spread: torch.Tensor = _Spread.apply(flat, self.filling, self.place)  # type: ignore[no-untyped-call]
        return spread.view(self.rows, self.longest, heads, width).transpose(1, 2)

    def together(self, states: torch.Tensor) -> torch.Tensor:
        """What attention found (rows, heads, longest, width) to (1, tokens, heads, width)."""
        heads, width = states.shape[1], states.shape[3]
        flat = states.transpose(1, 2).reshape(self.rows * self.longest, heads * width)
        found: torch.Tensor = _Together.apply(flat, self.place)  # type: ignore[no-untyped-call]
        return found.view(1, self.tokens, heads, width)


class Stretch(NamedTuple):
    """Rows that ask, among the packed tokens, and the same rows as they are asked."""

    asking: slice
    queries: Pack
    asked: slice
    keys: Pack


def _stretches(queries: Pack, keys: Pack) -> list[Stretch]:
    edges = [0, *_cuts(queries.sizes, keys.sizes), queries.rows]
    asking = queries.cut(edges)
    asked = asking if keys is queries else keys.cut(edges)
    return [Stretch(*one, *other) for one, other in zip(asking, asked, strict=True)]


def _cuts(queries: npt.NDArray[np.int64], keys: npt.NDArray[np.int64], begin: int = 0) -> list[int]:
    """Where to cut rows of these lengths into stretches, so that few scores are computed of padding."""
    rows = np.arange(1, len(queries))
    before = [np.maximum.accumulate(each)[:-1] for each in (queries, keys)]
    after = [np.maximum.accumulate(each[::-1])[::-1][1:] for each in (queries, keys)]
    whole = len(queries) * queries.max() * keys.max()
    saved = whole - rows * before[0] * before[1] - rows[::-1] * after[0] * after[1]
    if not len(saved) or saved.max() < WORTH:
        return []
    cut = int(saved.argmax()) + 1
    return [*_cuts(queries[:cut], keys[:cut], begin), begin + cut, *_cuts(queries[cut:], keys[cut:], begin + cut)]


class _Together(torch.autograd.Function):
    """What stands at places; back, zeros between them."""

    @staticmethod
    def forward(context: Any, spread: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(places)
        context.shape = spread.shape
        return spread.index_select(0, places)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        (places,) = context.saved_tensors
        return gradient.new_zeros(context.shape).index_copy_(0, places, gradient), None


class _Spread(torch.autograd.Function):
    """Copies of what stands at `sources`; back, what came to `places`, where each is itself."""

    @staticmethod
    def forward(context: Any, flat: torch.Tensor, sources: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(places)
        return flat.index_select(0, sources)

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (places,) = context.saved_tensors
        return gradient.index_select(0, places), None, None
