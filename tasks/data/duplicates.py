"""Rows that say the same: exact repetitions, and near ones, found exactly and without holding a text.

Exact: equal after folding (NFC, white space). Near: Jaccard similarity of the sets of word 3-grams, where words are
lower case and without punctuation; for scripts that are written without spaces (Chinese, Japanese, Thai ...) of
character 5-grams. A text with fewer words than one n-gram has no near neighbour.

The near search is an inverted index over 64-bit hashes of n-grams, not MinHash. Two sets with a similarity of t share
at least t of either's members; so a row that has fewer known n-grams than that is done with after one lookup, and any
partner of the others holds one of its few rarest known ones (prefix filter). Every candidate is then counted out, so
no row is missed and none is dropped wrongly.

Measured on 2 shared cores, train against test at 0.9, CPU seconds (peak memory over the texts), rows found:

                                     this            datasketch 2.0 (128)    rensa 0.5 (128)
    sst2       67 k x 1.8 k rows     0.5 s   7 MB    11.1 s  51 MB           0.5 s   6 MB
    banking77   9 k x 3.1 k          0.1 s, 18        2.8 s, 15              0.1 s, 18
    tnews      44 k x 10 k (zh)      0.7 s, 37       11.5 s, 32              1.2 s, 37
    sst2 at 0.5                      0.5 s, 7        12.1 s, 5               0.4 s, 2

Price: 20,000 rows of one template that differ in one number, against 2,000 of these, take 5 s, and it grows with the
product of both.
"""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]

WORDS = 3
CHARACTERS = 5
NONE = -1

_LONGEST_WORD = 1000  # composing is quadratic in a run of combining marks (100,000 of them: 9 to 35 s)
_WORD = re.compile(  # runs of what is neither white space nor punctuation; marks of Indic scripts belong to words
    r"[^\s!-/:-@\[-`{-~\xa1-\xbf\u2010-\u2027\u2030-\u205e\u3000-\u303f"
    r"\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65]+"
)
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def fold(text: str) -> str:
    """`text` in NFC with single spaces: what makes two rows the same. Words above 1,000 characters stay as written."""
    words = text.split()
    if text.isascii():
        return " ".join(words)
    return " ".join(unicodedata.normalize("NFC", word) if len(word) <= _LONGEST_WORD else word for word in words)


def digest(text: str, size: int = 16) -> bytes:
    return blake2b(text.encode(), digest_size=size).digest()


def is_spaced(text: str) -> bool:
    """Whether at most half of the visible characters belong to scripts that are written without spaces."""
    return text.isascii() or 2 * len(_UNSPACED.findall(text)) <= sum(map(len, text.split()))


def repeats(texts: Ints, answers: Ints, among: Mask, ranks: NDArray[Any]) -> Ints:
    """For each row `among` these the first one with the same text and answer, NONE if it is the first itself.

    The first is that of the lowest rank; of equal ones that which stands first.
    """
    first = np.full(len(texts), NONE, np.int64)
    rows = np.flatnonzero(among)
    order = rows[np.lexsort((ranks[rows], answers[rows], texts[rows]))]
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(texts[order]) != 0) | (np.diff(answers[order]) != 0)
    leaders = order[np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))]
    first[order[~new]] = leaders[~new]
    return first


def twins(texts: Ints, suspects: Mask, held: Mask) -> Ints:
    """For each of the suspects the first held row with the same text, or NONE."""
    owner = np.full(int(texts.max(initial=0)) + 1, NONE, np.int64)
    rows = np.flatnonzero(held)[::-1]
    owner[texts[rows]] = rows
    return np.where(suspects, owner[texts], NONE)


def conflicts(texts: Ints, answers: Ints, among: Mask) -> list[Ints]:
    """Rows of the same text that have different answers, one array a text, in the order of rows."""
    rows = np.flatnonzero(among)
    order = rows[np.lexsort((rows, texts[rows]))]
    runs = np.split(order, np.flatnonzero(np.diff(texts[order])) + 1)
    return sorted((run for run in runs if len(run) > 1 and np.ptp(answers[run])), key=lambda run: int(run[0]))


class Grams(NamedTuple):
    """Sets of n-gram hashes: those of the i-th row are `hashes[offsets[i] : offsets[i + 1]]`, sorted."""

    rows: Ints
    offsets: Ints
    hashes: Hashes


def grams(texts: Sequence[str], rows: Ints) -> Grams:
    """The n-gram sets of folded `texts`, which are rows number `rows`."""
    units, sizes, widths = _units(texts)
    starts = np.cumsum(sizes) - sizes
    owners, hashes = [], []
    for width in (WORDS, CHARACTERS):
        counts = np.where(widths == width, np.maximum(sizes - width + 1, 0), 0)
        owner = np.repeat(np.arange(len(texts)), counts)
        at = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + starts[owner]
        window = np.full(len(at), width, np.uint64)
        for step in range(width):
            window = _mixed(window + units[at + step])
        owners.append(owner)
        hashes.append(window)
    return _sets(rows, np.concatenate(owners), np.concatenate(hashes))


def joined(parts: Iterable[Grams]) -> Grams:
    """Several collections of sets as one."""
    every = list(parts) or [_sets(*_empty())]
    sizes = np.concatenate([np.diff(part.offsets) for part in every])
    return Grams(
        np.concatenate([part.rows for part in every]),
        np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        np.concatenate([part.hashes for part in every]),
    )


class Match(NamedTuple):
    row: int
    other: int
    similarity: float


class Index:
    """Sets to be compared with; 16 to 24 bytes for each of their n-grams."""

    def __init__(self, sets: Grams) -> None:
        self.known, members = np.unique(sets.hashes, return_inverse=True)
        self.rows, self.offsets, self.members = sets.rows, sets.offsets, members.astype(np.int32)
        owners = np.repeat(np.arange(len(sets.rows), dtype=np.int32), np.diff(sets.offsets))
        self.holders = owners[np.argsort(self.members, kind="stable")]
        self.counts = np.bincount(self.members, minlength=len(self.known))
        self.begins = np.cumsum(self.counts) - self.counts

    def matches(self, suspects: Grams, similarity: float) -> list[Match]:
        """For each suspect set that has one, the most similar of the indexed sets at `similarity` or above."""
        if not len(self.known):
            return []
        at = np.minimum(np.searchsorted(self.known, suspects.hashes), len(self.known) - 1)
        known = self.known[at] == suspects.hashes
        seen = np.concatenate([[0], np.cumsum(known)])[suspects.offsets]
        sizes = np.diff(suspects.offsets)
        least = np.ceil(similarity * sizes - 1e-9)
        found = []
        for i in np.flatnonzero((np.diff(seen) >= least) & (sizes > 0)):
            span = slice(suspects.offsets[i], suspects.offsets[i + 1])
            best = self._best(at[span][known[span]], int(sizes[i]), similarity)
            if best:
                found.append(Match(int(suspects.rows[i]), int(self.rows[best[0]]), best[1]))
        return found

    def _best(self, members: Ints, size: int, similarity: float) -> tuple[int, float] | None:
        rarest = members[np.argsort(self.counts[members], kind="stable")]
        prefix = rarest[: len(members) - math.ceil(similarity * size - 1e-9) + 1]
        spans = zip(self.begins[prefix], self.counts[prefix], strict=True)
        candidates = np.unique(np.concatenate([self.holders[begin : begin + count] for begin, count in spans]))
        sizes = self.offsets[candidates + 1] - self.offsets[candidates]
        least = similarity / (1 + similarity) * (size + sizes) - 1e-9  # to be shared, given both sizes
        fitting = (least <= len(members)) & (least <= sizes)
        candidates, sizes = candidates[fitting], sizes[fitting]
        if not len(candidates):
            return None
        shared = self._shared(members, candidates, sizes)
        scores = shared / (size + sizes - shared)
        top = int(np.argmax(scores))
        return (int(candidates[top]), float(scores[top])) if scores[top] >= similarity else None

    def _shared(self, members: Ints, candidates: Ints, sizes: Ints) -> Ints:
        ends = np.cumsum(sizes)
        at = np.arange(ends[-1]) + np.repeat(self.offsets[candidates] - (ends - sizes), sizes)
        hits = np.isin(self.members[at], members)
        totals: Ints = np.add.reduceat(hits, ends - sizes, dtype=np.int64)
        return totals


class _Vocabulary(dict[str, int]):
    """Hash of a word, computed once."""

    def __missing__(self, word: str) -> int:
        self[word] = value = int.from_bytes(digest(word, 8), "little")
        return value


def _units(texts: Sequence[str]) -> tuple[Hashes, Ints, Ints]:
    """What n-grams are made of: hashes of words or characters, their number and the n of each text."""
    vocabulary = _Vocabulary()
    units: list[int] = []
    sizes, widths = [], []
    for text in texts:
        words: Sequence[str] = _WORD.findall(text.casefold())
        spaced = is_spaced(text)
        own = words if spaced else "".join(words)
        units.extend(map(vocabulary.__getitem__, own))
        sizes.append(len(own))
        widths.append(WORDS if spaced else CHARACTERS)
    return np.array(units, np.uint64), np.array(sizes, np.int64), np.array(widths, np.int64)


def _mixed(hashes: Hashes) -> Hashes:
    hashes = (hashes ^ (hashes >> np.uint64(31))) * np.uint64(0x7FB5D329728EA185)
    return hashes ^ (hashes >> np.uint64(27))


def _sets(rows: Ints, owners: Ints, hashes: Hashes) -> Grams:
    order = np.lexsort((hashes, owners))
    owners, hashes = owners[order], hashes[order]
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(owners) != 0) | (hashes[1:] != hashes[:-1])
    sizes = np.bincount(owners[new], minlength=len(rows))
    return Grams(np.asarray(rows), np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64), hashes[new])


def _empty() -> tuple[Ints, Ints, Hashes]:
    return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.uint64)
