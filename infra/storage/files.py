"""Files that appear whole or not at all, and digests that are taken once.

A new file is written beside its place under a name that begins with `~`, then renamed. A kill leaves at most such a
`~` file, which nobody lists or reads because no object's name may hold that sign; deleting it is always safe.
What arrives is read-only (0444 less the umask): files here are replaced, never edited.
"""

import errno
import hashlib
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from infra.errors import Coded

CHUNK = 1 << 20  # bytes
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SETTLED = 1_000_000_000  # ns after its last change until a file's times are trusted: far above any clock's tick

_known: dict[tuple[str, int, int, int], str] = {}


def digest(path: Path) -> str:
    """The file's SHA-256 as `sha256:<hex>`; bytes that this process has read and nobody changed are not read again."""
    stat = path.stat()
    key = (str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    if key in _known:
        return _known[key]
    with path.open("rb") as file:
        found = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - stat.st_mtime_ns > SETTLED:
        _known[key] = found
    return found


@contextmanager
def arriving(target: Path) -> Iterator[BinaryIO]:
    """A file to write to, which becomes `target` when the block ends well and leaves nothing when it does not.

    Raises Coded E-DISK when there is no room.
    """
    make_folder(target.parent)
    temporary = beside(target)
    try:
        with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444), "wb") as file:
            yield file
        os.replace(temporary, target)
    except OSError as error:
        if error.errno not in FULL:
            raise
        room = shutil.disk_usage(target.parent).free / 1e9
        found = f"no room for {target} ({os.strerror(error.errno)}; {room:.2f} GB free)"
        raise Coded("E-DISK", f"{found}: free some and start again") from error
    finally:
        temporary.unlink(missing_ok=True)


def copy(source: Path, target: Path) -> None:
    """`target` becomes a copy of `source`."""
    with arriving(target) as out, source.open("rb") as file:
        shutil.copyfileobj(file, out, CHUNK)


def link(source: Path, target: Path) -> None:
    """`target` becomes a second name of `source`'s bytes, or a copy where the file system has no hard links."""
    make_folder(target.parent)
    temporary = beside(target)
    try:
        os.link(source, temporary)
        os.replace(temporary, target)
    except OSError:
        copy(source, target)
    finally:
        temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """The folder and its parents, each one durable before the next."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync(folder.parent)


def sync(folder: Path) -> None:
    """The names in a folder survive a power loss from here on."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def beside(target: Path) -> Path:
    """A new path in the folder of `target` that no object's name can be."""
    return target.parent / f"~{secrets.token_hex(8)}"
