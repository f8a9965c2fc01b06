"""Tokens that a masked language model has to guess (Devlin et al. 2019, section 3.1 and appendix A.1).

Of the ordinary tokens of a row 15 % are chosen, at least one; of these 80 % become [MASK], 10 % another token, drawn
from the whole vocabulary, and 10 % stay. How many are chosen follows from the row alone, so that the labels of a step
are counted without a draw; which ones is a function of (seed, draw, row), drawn anew in each epoch, and the same on
however many processes, and after whatever kill. A row costs 30 microseconds.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tasks.data.batches import Batch, Rows, tokens_of
from tasks.data.shards import Shard

MASKED, OTHER = 0.8, 0.1


@dataclass(frozen=True)
class Corruption:
    """How rows are corrupted.

    Args:
        vocabulary: number of token ids.
        special: ids that are never chosen, and never put in another's place; that of [MASK] is one of them.
        share: of the ordinary tokens of a row that are chosen.
    """

    mask: int
    vocabulary: int
    special: tuple[int, ...]
    seed: int
    share: float = 0.15

    @cached_property
    def ordinary(self) -> npt.NDArray[np.int64]:
        """Ids of the tokens that may be chosen."""
        return np.setdiff1d(np.arange(self.vocabulary), [*self.special, self.mask])

    def labels(self, shard: Shard, rows: Rows) -> int:
        """How many tokens of these rows are chosen."""
        tokens = np.isin(shard.tokens[tokens_of(shard.bounds, rows)], self.ordinary)
        ends = np.cumsum(shard.lengths[rows])
        counts = np.diff(np.append(0, np.cumsum(tokens))[np.append(0, ends)])
        return int(self._chosen(counts).sum())

    def of(self, batch: Batch, rows: Rows, draw: int = 0) -> Batch:
        """The batch of these rows of a shard, corrupted; the head answers what was chosen.

        Args:
            draw: number of the epoch, from 1; 0 where nothing is learned, so that losses can be compared.
        """
        ids = batch.ids.copy()
        read, labels, begin = [], [], 0
        for place, (row, length) in enumerate(zip(rows, batch.lengths, strict=True)):
            chance = np.random.default_rng([self.seed, 4, draw, int(row)])
            ordinary = np.flatnonzero(np.isin(ids[place, :length], self.ordinary))
            chosen = np.sort(chance.permutation(ordinary)[: int(self._chosen(np.array(len(ordinary))))])
            labels.append(ids[place, chosen])
            read.append(begin + chosen)
            kind, other = chance.random(len(chosen)), chance.choice(self.ordinary, len(chosen))
            ids[place, chosen[kind < MASKED + OTHER]] = other[kind < MASKED + OTHER]
            ids[place, chosen[kind < MASKED]] = self.mask
            begin += int(length)
        return batch._replace(ids=ids, labels=np.concatenate(labels), read=np.concatenate(read))

    def _chosen(self, ordinary: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Of so many ordinary tokens."""
        chosen: npt.NDArray[np.int64] = np.maximum(1, np.rint(self.share * ordinary)).astype(np.int64)
        return np.minimum(ordinary, chosen)
