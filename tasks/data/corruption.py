"""Tokens that a masked language model has to guess (Devlin et al. 2019, section 3.1 and appendix A.1).

Of the ordinary tokens of a row 15 % are chosen, at least one; of these 80 % become [MASK], 10 % another token, drawn
from the whole vocabulary, and 10 % stay. How many are chosen follows from the row alone, so that the labels of a step
are counted without a draw; which ones is a function of (seed, draw, row), drawn anew in each epoch, and the same on
however many processes, and after whatever kill. A row costs 0.13 ms on a busy core.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from tasks.data.batches import Batch, Rows, tokens_of
from tasks.data.shards import Shard
from tasks.errors import BadInput

SHARE, MASKED, OTHER = 0.15, 0.8, 0.1
MASKS = ("[MASK]", "<mask>")  # of BERT and RoBERTa, and their kin


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
    share: float = SHARE

    @classmethod
    def by(cls, tokenizer: Tokenizer, seed: int) -> Self:
        """How rows of a tokenizer are corrupted.

        Raises:
            BadInput: E-TOK-MASK, it has no token that hides another.
        """
        mask = next((number for name in MASKS if (number := tokenizer.token_to_id(name)) is not None), None)
        if mask is None:
            wanted = " or ".join(MASKS)
            raise BadInput("E-TOK-MASK", f"the tokenizer has no {wanted}: take the base of one that has, or train one")
        added = json.loads(tokenizer.to_str())["added_tokens"]
        special = tuple(token["id"] for token in added if token["special"])
        return cls(mask, tokenizer.get_vocab_size(), special, seed)

    @cached_property
    def chooses(self) -> npt.NDArray[np.bool_]:
        """Whether each token id may be chosen, (vocabulary,)."""
        return ~np.isin(np.arange(self.vocabulary), [*self.special, self.mask])

    @cached_property
    def ordinary(self) -> npt.NDArray[np.int64]:
        """Those that may."""
        return np.flatnonzero(self.chooses)

    def labels(self, shard: Shard, rows: Rows) -> int:
        """How many tokens of these rows are chosen."""
        tokens = self.chooses[shard.tokens[tokens_of(shard.bounds, rows)]]
        ends = np.cumsum(shard.lengths[rows])
        counts = np.diff(np.append(0, np.cumsum(tokens))[np.append(0, ends)])
        return int(self._chosen(counts).sum())

    def of(self, batch: Batch, rows: Rows, draw: int = 0) -> Batch:
        """The batch of these rows of a shard, corrupted; the head answers what was chosen.

        Args:
            draw: number of the epoch, from 1; 0 where nothing is learned, so that losses can be compared.
        """
        ids, may = batch.ids.copy(), self.chooses[batch.ids] & batch.mask.astype(bool)
        read, labels, begin = [], [], 0
        for place, (row, length) in enumerate(zip(rows, batch.lengths, strict=True)):
            chance = np.random.default_rng([self.seed, 4, draw, int(row)])
            ordinary = np.flatnonzero(may[place])
            chosen = np.sort(chance.permutation(ordinary)[: self._chosen(np.int64(len(ordinary)))])
            labels.append(ids[place, chosen])
            read.append(begin + chosen)
            kind = chance.random(len(chosen))
            other = self.ordinary[chance.integers(len(self.ordinary), size=len(chosen))]
            ids[place, chosen[kind < MASKED + OTHER]] = other[kind < MASKED + OTHER]
            ids[place, chosen[kind < MASKED]] = self.mask
            begin += int(length)
        return batch._replace(ids=ids, labels=np.concatenate(labels), read=np.concatenate(read))

    def _chosen(self, ordinary: Any) -> Any:
        """How many, of so many ordinary tokens."""
        return np.minimum(ordinary, np.maximum(1, np.rint(self.share * ordinary))).astype(np.int64)
