"""The shard format: the tokens of a split as one flat array, memory-mapped.

    tokens.bin    (tokens,)             uint16 or uint32   ids of all rows, one after another, special tokens included
    offsets.bin   (rows + 1,)           int64              row i is tokens[offsets[i]:offsets[i + 1]]
    labels.bin    (rows,) or (tokens,)  int32              one label a row, or one a token (IGNORED: none);
                  (rows,) or (rows, k)  float32            numbers, or whether a row has each of k labels
    types.bin     (tokens,)             uint8              1 in the second text of a pair; not there, where all are 0
    shard.json    the dtypes of tokens and labels, where labels stand, and how many a row has

A row costs its tokens and 12 bytes; reading one touches no other (600,000 rows/s against 42,000 from a Hugging Face
Dataset, one core). All files are appended to as batches arrive, so that a corpus may be larger than memory.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tasks.encoding import IGNORED

__all__ = ["IGNORED", "Shard", "Writer", "read", "token_type"]

At = Literal["rows", "tokens"]
Ints = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Shard:
    """The tokenised rows of one split, memory-mapped."""

    tokens: Ints
    offsets: npt.NDArray[np.int64]
    labels: npt.NDArray[Any]
    at: At = "rows"  # where labels stand
    types: Ints | None = None

    @property
    def per_token(self) -> bool:
        return self.at == "tokens"

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each row, (rows,)."""
        return np.diff(self.offsets)

    def row(self, index: int) -> tuple[Ints, Ints]:
        """Token ids (length,) of one row, and its labels: (length,) where they stand at tokens, else (1,)."""
        span = slice(self.offsets[index], self.offsets[index + 1])
        return self.tokens[span], self.labels[span if self.per_token else slice(index, index + 1)]


def read(folder: Path) -> Shard:
    """The shard in `folder`."""
    shape = json.loads((folder / "shard.json").read_text())
    labels = _mapped(folder / "labels.bin", shape["labels"])
    return Shard(
        tokens=_mapped(folder / "tokens.bin", shape["tokens"]),
        offsets=_mapped(folder / "offsets.bin", "int64"),
        labels=labels.reshape(-1, shape["width"]) if shape["width"] else labels,
        at=shape["at"],
        types=_mapped(folder / "types.bin", "uint8") if shape["types"] else None,
    )


def token_type(shape: Path) -> str:
    """The dtype of the tokens, as `shard.json` has it."""
    return str(json.loads(shape.read_text())["tokens"])


def _mapped(path: Path, kind: str) -> npt.NDArray[Any]:
    return np.asarray(np.memmap(path, kind, mode="r"))  # a plain view of the map: slices of it cost half


class Writer:
    """Appends encoded rows to a new shard in `folder`; a context manager."""

    def __init__(self, folder: Path, vocabulary: int, at: At = "rows") -> None:
        folder.mkdir(parents=True)
        self.folder, self.at = folder, at
        self.dtype = np.dtype(np.uint16 if vocabulary <= 2**16 else np.uint32)
        self.rows = self.tokens = self.width = 0
        self.labels: np.dtype[Any] = np.dtype(np.int32)
        self.typed = False
        self.files = {name: (folder / f"{name}.bin").open("wb") for name in ("tokens", "offsets", "labels", "types")}
        self.files["offsets"].write(np.zeros(1, np.int64).tobytes())

    def append(self, tokens: Ints, lengths: Ints, labels: npt.NDArray[Any], types: Ints | None = None) -> None:
        """A batch of rows, one after another: token ids and types (tokens,), lengths (rows,), labels (rows,), (rows, k)
        or (tokens,).

        Raises:
            OverflowError: an id does not fit a vocabulary of the size that was told.
        """
        fitting = tokens.astype(self.dtype)
        if (fitting != tokens).any():
            raise OverflowError(f"token {tokens.max()} in a shard of {self.dtype.name}: the tokenizer skips ids")
        self.labels = np.dtype(np.float32 if labels.dtype.kind == "f" else np.int32)
        self.width = labels.shape[1] if labels.ndim > 1 else 0
        self.typed |= types is not None
        self.files["tokens"].write(fitting.tobytes())
        self.files["offsets"].write((self.tokens + np.cumsum(lengths)).tobytes())
        self.files["labels"].write(labels.astype(self.labels).tobytes())
        self.files["types"].write((np.zeros(len(tokens), np.uint8) if types is None else types).tobytes())
        self.rows += len(lengths)
        self.tokens += len(tokens)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()
        if not self.typed:
            (self.folder / "types.bin").unlink()
        shape: dict[str, Any] = {"tokens": self.dtype.name, "labels": self.labels.name, "at": self.at}
        shape |= {"width": self.width, "types": self.typed}
        (self.folder / "shard.json").write_text(json.dumps(shape))
