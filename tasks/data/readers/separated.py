"""Tables of text: CSV and TSV with a header, by Python's strict csv reader, and plain text.

A quote that is never closed would swallow all rows that follow (1 000 of them, measured, without an error), so it ends
the reading: with the line where it opened, at the latest after 1 MiB. A row of too few or too many cells is one fault.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader

from tasks.data.readers.lines import Fault, Line, Row, lines, undecodable
from tasks.errors import BadInput

MAX_FIELD = 1 << 20  # characters


def rows(file: BufferedReader, name: str, delimiter: str) -> Iterator[Row | Fault]:
    """A Row or Fault for every record below the header; all values are text.

    Faults: encoding, csv-ragged, csv-syntax.

    Raises:
        BadInput: E-CSV-HEADER, E-CSV-QUOTE; what `lines` raises.
    """
    csv.field_size_limit(MAX_FIELD)  # the module's only way: for the whole process
    feed = _Feed(lines(file, name))
    records = csv.reader(feed, delimiter=delimiter, strict=True)
    header = _header(records, feed, name)
    while True:
        feed.record.clear()
        try:
            cells = next(records)
        except StopIteration:
            return
        except csv.Error as error:
            yield _broken(feed, delimiter, error, name)
            continue
        if not cells:
            continue
        if fault := feed.undecodable():
            yield fault
        elif len(cells) != len(header):
            detail = f"found {len(cells)} cells, wanted {len(header)} as in the header"
            yield Fault(feed.number, "csv-ragged", detail, feed.text)
        else:
            yield Row(feed.number, dict(zip(header, cells, strict=True)))


def text(file: BufferedReader, name: str) -> Iterator[Row | Fault]:
    """A Row of one column, `text`, for every line that is not blank. Faults: encoding."""
    for line in lines(file, name):
        if not line.content.strip():
            continue
        try:
            yield Row(line.number, {"text": line.content.decode().rstrip("\r\n")})
        except UnicodeDecodeError as error:
            yield undecodable(error, line.number, line.offset)


class _Feed:
    """Lines for csv.reader that remembers those of the record at work. Bytes that are not UTF-8 pass, to be found."""

    def __init__(self, source: Iterator[Line]) -> None:
        self.source = source
        self.record: list[Line] = []

    def __iter__(self) -> "_Feed":
        return self

    def __next__(self) -> str:
        line = next(self.source)
        self.record.append(line)
        return line.content.decode(errors="surrogateescape")

    @property
    def number(self) -> int:
        return self.record[0].number

    @property
    def text(self) -> str:
        return b"".join(line.content for line in self.record).decode(errors="surrogateescape")

    def undecodable(self) -> Fault | None:
        for line in self.record:
            try:
                line.content.decode()
            except UnicodeDecodeError as error:
                return undecodable(error, self.number, line.offset)
        return None


def _header(records: Iterator[list[str]], feed: _Feed, name: str) -> list[str]:
    """The names of the columns; none in an empty file."""
    try:
        header = next((cells for cells in records if cells), [])
    except csv.Error as error:
        raise BadInput(
            "E-CSV-HEADER", f"{name}: no readable header ({error}); mend quotes, end lines with LF"
        ) from error
    if fault := feed.undecodable():
        raise BadInput("E-CSV-HEADER", f"{name}: {fault.detail}, in the header; save the file as UTF-8")
    if "" in header:
        place = header.index("") + 1
        raise BadInput("E-CSV-HEADER", f"{name}: column {place} of {len(header)} has no name; name it or leave it out")
    if twice := [column for column, times in Counter(header).items() if times > 1]:
        raise BadInput("E-CSV-HEADER", f"{name}: column {twice[0]!r:.80} stands twice in the header; rename one")
    return header


def _broken(feed: _Feed, delimiter: str, error: csv.Error, name: str) -> Fault:
    """The fault of a record that is no CSV.

    Raises:
        BadInput: E-CSV-QUOTE if a quote was opened in it and not closed where its line, the file or 1 MiB ends.
    """
    content = feed.text
    other = re.escape(delimiter)
    field = re.compile(rf'(?:"(?:[^"]|"")*+"|[^"{other}\n][^{other}\n]*+|){other}')
    start = 0
    while found := field.match(content, start):
        start = found.end()
    closed = re.compile(r'"(?:[^"]|"")*+"').match(content, start)
    if content.startswith('"', start) and (len(feed.record) > 1 or not closed):
        line = feed.number + content.count("\n", 0, start)
        raise BadInput(
            "E-CSV-QUOTE",
            f"{name}: the quote opened at line {line} is not closed where its cell ends (looked until line "
            f'{feed.record[-1].number}, at most {MAX_FIELD >> 20} MiB); close it, or double quotes that are text ("")',
        ) from error
    return Fault(feed.number, "csv-syntax", str(error), content)
