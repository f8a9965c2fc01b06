"""Lines of a file as they are, one at a time, and what every reader hands on: a Row, or a Fault in its place.

Lines end with a line feed and nothing else: U+0085 and U+2028 occur inside texts. A file whose first bytes belie its
name is refused before a row is read. Only one line is held, which may be 16 MiB long; a packed file (.gz) may grow to
100 times its size.
"""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import Any, NamedTuple

from tasks.errors import BadInput

MAX_LINE = 16 << 20  # bytes
MAX_RATIO = 100  # unpacked to packed
UNTIL_RATIO = 64 << 20  # unpacked bytes below which the ratio does not matter

_BOM = b"\xef\xbb\xbf"
_MAGIC = (
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x7fELF", "a program (ELF)"),
    (b"MZ\x90", "a program (Windows)"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet)"),
    (b"\x1f\x8b", "gzip (name it .gz)"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"Rar!\x1a", "a rar archive"),
    (b"%PDF-", "a PDF"),
    (b"PAR1\x15", "Parquet (name it .parquet)"),
    (b"ARROW1\x00", "an Arrow file"),
    (b"SQLite format 3\x00", "a SQLite database"),
    (b"\xff\xfe", "UTF-16 (save it as UTF-8)"),
    (b"\xfe\xff", "UTF-16 (save it as UTF-8)"),
    (b"version https://git-lfs", "a Git LFS pointer (run `git lfs pull`)"),
    (b"<!doctype html", "an HTML page (perhaps an error page)"),
    (b"<html", "an HTML page (perhaps an error page)"),
    (b"<?xml", "XML (perhaps a server's error)"),
)


class Row(NamedTuple):
    """What stands at a place: values by column."""

    number: int  # 1-based, of its line (or of the row, where a format has no lines)
    values: dict[str, Any]
    automatic: bool = False  # whether its answers are a model's, which no person has looked at
    data: dict[str, Any] | None = None  # of a task that was answered: its values without the answers

    @property
    def annotated(self) -> bool:
        """Whether a person answered the task that the row was."""
        return self.data is not None and not self.automatic


class Fault(NamedTuple):
    """Why what stands at a place cannot be used."""

    number: int
    reason: str
    detail: str
    found: Any  # the row as found


class Unfit(Exception):
    """Why a row cannot be used, on its way to become a Fault."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Line(NamedTuple):
    number: int  # 1-based
    offset: int  # bytes of the unpacked file before it
    content: bytes  # with its line feed


def lines(file: BufferedReader, name: str) -> Iterator[Line]:
    """The lines of a file; raises BadInput E-DATA-LINE, E-DATA-BOMB, and what `unpacked` does."""
    with unpacked(file, name) as stream:
        offset, number = stream.tell(), 0
        while content := stream.readline(MAX_LINE + 1):
            number += 1
            long = len(content) > MAX_LINE
            if stream is not file and (long or offset > UNTIL_RATIO):
                _refuse_bomb(offset + len(content), file.tell(), name)
            if long:
                raise BadInput("E-DATA-LINE", f"{name} line {number}: longer than {MAX_LINE >> 20} MiB; one row a line")
            yield Line(number, offset, content)
            offset += len(content)


@contextmanager
def unpacked(file: BufferedReader, name: str) -> Iterator[BufferedReader | gzip.GzipFile]:
    """A file behind its UTF-8 byte order mark, if there is one; unpacked where `name` ends with .gz.

    Raises:
        BadInput: E-DATA-MAGIC or E-DATA-GZIP.
    """
    packed = name.lower().endswith(".gz")
    head = file.peek(2)[:512]
    if packed and head and not head.startswith(b"\x1f\x8b"):
        refuse_other_formats(head, name)
        raise BadInput("E-DATA-GZIP", f"{name} is not packed by gzip; take .gz off its name")
    stream = gzip.GzipFile(fileobj=file) if packed else file
    try:
        head = stream.peek(512)[:512]
        refuse_other_formats(head, name)
        if head.startswith(_BOM):
            stream.read(len(_BOM))
        yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise BadInput("E-DATA-GZIP", f"{name}: the packed file is cut or damaged ({error}); copy it again") from error


def refuse_other_formats(head: bytes, name: str) -> None:
    """Raise BadInput E-DATA-MAGIC if the first bytes of a file say that it is no text."""
    start = head.lstrip().lower()
    for magic, kind in _MAGIC:
        if head.startswith(magic) or (magic[:1] == b"<" and start.startswith(magic)):
            raise BadInput("E-DATA-MAGIC", f"{name} looks like {kind}; wanted what its name says: replace the file")


def undecodable(error: UnicodeDecodeError, number: int, offset: int) -> Fault:
    """The fault of a line that is not UTF-8; `offset`: of the decoded bytes within the file."""
    byte = error.object[error.start]
    detail = f"byte {offset + error.start} (0x{byte:02x}) is not UTF-8"
    return Fault(number, "encoding", detail, error.object[:800].decode(errors="backslashreplace"))


def _refuse_bomb(unpacked: int, packed: int, name: str) -> None:
    if unpacked > MAX_RATIO * packed:
        raise BadInput(
            "E-DATA-BOMB",
            f"{name}: {unpacked >> 20} MiB unpacked from {packed} bytes, ratio {unpacked // packed} > {MAX_RATIO}; "
            f"unpack it yourself if you trust it",
        )
