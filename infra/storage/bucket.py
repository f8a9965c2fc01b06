"""What a place for objects must do, and which names it takes.

A name is one or more parts of `A-Z a-z 0-9 . _ = -` joined by single slashes, never `.` or `..`: such a name is a
harmless path below any folder and the same key in every object store. The price: no spaces, no umlauts, no `~`.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, Self

from infra.errors import Coded, Missing

LONGEST = 900  # characters; S3 takes 1024 bytes with the prefix
LONGEST_PART = 255  # characters; what a file name may have

_NAME = re.compile(r"[A-Za-z0-9._=-]+(?:/[A-Za-z0-9._=-]+)*")


def checked(name: str) -> str:
    """`name` as it is, if an object may have it; raises Coded E-KEY."""
    parts = name.split("/")
    long = len(name) > LONGEST or max(map(len, parts)) > LONGEST_PART
    if long or not _NAME.fullmatch(name) or "." in parts or ".." in parts:
        raise Coded(
            "E-KEY",
            f"object name {name[:100]!r} ({len(name)} characters) is not allowed: use parts of A-Z a-z 0-9 . _ = - "
            f"joined by single slashes, at most {LONGEST} characters, and no '..'",
        )
    return name


def checked_prefix(prefix: str) -> str:
    """`prefix` as it is, if names may begin with it; raises Coded E-KEY."""
    if prefix:
        checked(prefix.removesuffix("/"))
    return prefix


def missing(where: str) -> Missing:
    """The error for an object that is not there."""
    return Missing(
        "E-STORE-MISSING", f"no object {where}: it was deleted, or this is not the store that it was written to"
    )


class Bucket(Protocol):
    """Objects by name. Every method raises Coded E-KEY for a name that is not allowed."""

    @property
    def uri(self) -> str:
        """Where it is, for people and messages; without secrets."""

    def write(self, name: str, source: Path | bytes) -> None:
        """Store the bytes under `name`, whole or not at all; what stood there is replaced."""

    def read(self, name: str) -> bytes:
        """The object's bytes, in memory: for small ones; raises Missing E-STORE-MISSING."""

    def fetch(self, name: str, to: Path) -> None:
        """Download the object; `to` appears whole or not at all; raises Missing E-STORE-MISSING."""

    def size(self, name: str) -> int | None:
        """The object's size in bytes; None: it is not there."""

    def names(self, prefix: str = "") -> Iterator[str]:
        """The names that begin with `prefix`, in the order of their bytes."""

    def delete(self, name: str) -> None:
        """Remove the object, if it is there."""

    def sweep(self, older: float) -> list[str]:
        """Remove what killed writers left half made more than `older` seconds ago; says what."""

    def within(self, prefix: str) -> Self:
        """The objects below `prefix/` as a bucket of their own."""

    def path(self, name: str) -> Path | None:
        """The file that the object is, or would be; None where objects are no files of this machine."""
