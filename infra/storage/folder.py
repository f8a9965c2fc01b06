"""Objects as files of one folder: the embedded store, and one on a shared disk.

A write is durable when it returns: the bytes are synced, renamed into place, and the name is synced. The price is two
fsync calls an object. Unlike in S3, a name cannot at the same time be an object and the folder of other objects.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from infra.storage import files
from infra.storage.bucket import checked, checked_prefix, missing


class FolderBucket:
    """Objects below `root`, which is made when the first one is written."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()

    @property
    def uri(self) -> str:
        return str(self.root)

    def path(self, name: str) -> Path:
        return self.root / checked(name)

    def write(self, name: str, source: Path | bytes) -> None:
        path = self.path(name)
        with files.arriving(path) as out:
            if isinstance(source, bytes):
                out.write(source)
            else:
                with source.open("rb") as file:
                    while chunk := file.read(files.CHUNK):
                        out.write(chunk)
            out.flush()
            os.fsync(out.fileno())
        files.sync(path.parent)

    def read(self, name: str) -> bytes:
        return self._there(name).read_bytes()

    def fetch(self, name: str, to: Path) -> None:
        files.copy(self._there(name), to)

    def size(self, name: str) -> int | None:
        path = self.path(name)
        return path.stat().st_size if path.is_file() else None

    def names(self, prefix: str = "") -> Iterator[str]:
        start = self.root / checked_prefix(prefix).rpartition("/")[0]
        found = (Path(folder, file) for folder, _, names in os.walk(start) for file in names if "~" not in file)
        names = (path.relative_to(self.root).as_posix() for path in found)
        yield from sorted(name for name in names if name.startswith(prefix))

    def delete(self, name: str) -> None:
        self.path(name).unlink(missing_ok=True)

    def sweep(self, older: float) -> list[str]:
        swept, before = [], time.time() - older
        for path in sorted(path for path in self.root.rglob("*~*") if path.is_file()):
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < before:
                    path.unlink()
                    swept.append(path.relative_to(self.root).as_posix())
        return swept

    def within(self, prefix: str) -> "FolderBucket":
        return FolderBucket(self.path(prefix))

    def _there(self, name: str) -> Path:
        path = self.path(name)
        if not path.is_file():
            raise missing(str(path))
        return path
