"""ingest: the rows of a source become a Snapshot, each with the place where it was found.

What cannot be a row goes to the quarantine with a reason that never changes; whether there are too many of those,
`validate` decides. Memory holds one batch of rows: 1 GB of JSON Lines (3.8 million rows of five columns) took 106 s and
234 MB at the peak, of which 124 MB are imports; sst2's Parquet goes at 50 000 rows/s, on two shared cores.
"""

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from tasks import problems, stages
from tasks.data import sources, splits
from tasks.data.readers import READERS, hub
from tasks.data.readers.lines import Fault, Row, Unfit
from tasks.data.readers.roles import Fitted, fitted
from tasks.data.sources import Part
from tasks.errors import BadInput, listed
from tasks.problems.contract import Problem, stored
from tasks.recipe import Data, Task
from tasks.records import Snapshot
from tasks.verb import verb

BATCH = 8192  # rows
BATCH_CHARACTERS = 32 << 20  # or fewer, if their texts are longer than this together
WATCHED = 50_000_000  # bytes of a source from which a terminal sees a progress line
COLUMNS_SHOWN = 20

log = logging.getLogger("vernal.ingest")


@verb
def ingest(data: Data, task: Task, beside: str) -> Snapshot:
    """The rows that the source holds now; `beside`: the folder of the recipe.

    Raises:
        BadInput: E-SOURCE-*, E-DATA-*, E-CSV-HEADER, E-CSV-QUOTE, E-PARQUET, E-SCHEMA, E-POLICY, E-HUB-DATASET.
        Unreachable, Denied, Missing: as S3 and the Hub answer.
    """
    parts = sources.resolve(data.source, Path(beside))
    key = stages.ingest(sources.fingerprint(parts), task, data)
    return stages.once(key, lambda folder: take(parts, task, data, folder))


def take(parts: list[Part], task: Task, data: Data, folder: Path) -> Snapshot:
    """`ingest` of known parts in an empty `folder`, whether done before or not."""
    began, megabytes = time.monotonic(), sum(map(sources.size, parts)) / 1e6
    log.info("%d parts, %.1f MB: %s", len(parts), megabytes, listed([part.name for part in parts]))
    account = Counter[str]()
    problem = problems.named(task)
    columns = _Columns(problem, data)
    with _Rows(folder, problem) as kept, (folder / "quarantine.jsonl").open("wb") as quarantine:
        for place, split, found in everything(parts):
            fault = found if isinstance(found, Fault) else None
            if isinstance(found, Row):
                columns.see(found.values)
                try:
                    named = splits.LABELLED_BY_A_MODEL if found.automatic else split
                    kept.add(place, named, fitted(found.values, problem, data, annotated=found.annotated))
                except Unfit as unfit:
                    fault = Fault(found.number, unfit.reason, unfit.detail, found.values)
            account[fault.reason if fault else "kept"] += 1
            if fault:
                quarantine.write(_line(place, fault))
    if not account:
        raise BadInput("E-DATA-EMPTY", f"{listed([part.name for part in parts])}: no rows; name a source that has some")
    columns.refuse_missing()
    rows = account.pop("kept", 0)
    log.info("%d rows kept, quarantined: %s; %.1f s", rows, dict(account) or "none", time.monotonic() - began)
    inputs = {part.name: part.fingerprint for part in parts}
    parents = (sources.fingerprint(parts),)
    return Snapshot.of(stages.keep(folder), parents=parents, rows=rows, quarantined=account.total(), inputs=inputs)


class _Columns:
    """Which columns the rows have, as far as the recipe names one that was not seen yet."""

    def __init__(self, problem: Problem, data: Data) -> None:
        named = {**data.columns(problem), "time": data.time, "group": data.group}
        self.missing = {role: column for role, column in named.items() if column is not None}
        self.found: dict[str, None] = {}
        self.rows = 0

    def see(self, values: dict[str, Any]) -> None:
        self.rows += 1
        if self.missing:
            self.missing = {role: column for role, column in self.missing.items() if column not in values}
            if len(self.found) < COLUMNS_SHOWN:
                self.found.update(dict.fromkeys(values))

    def refuse_missing(self) -> None:
        """Raise BadInput E-SCHEMA if a column that the recipe names is in no row."""
        if self.rows and self.missing:
            found = ", ".join(f"{column!r:.60}" for column in list(self.found)[:COLUMNS_SHOWN]) or "none"
            faults = [f"column {column!r} is in none of the {self.rows} rows" for column in self.missing.values()]
            keys = ", ".join(f"data.{role}" for role in self.missing)
            raise BadInput("E-SCHEMA", f"{listed(faults)}; found columns {found}; name it in {keys}")


class _Rows:
    """rows.parquet, written a batch at a time: the same rows give the same bytes."""

    def __init__(self, folder: Path, problem: Problem) -> None:
        self.roles = tuple(problem.roles)
        columns = [("row", pa.int64()), ("place", pa.string()), ("split", pa.string())]
        columns += [(role, stored(kind)) for role, kind in problem.roles.items()]
        columns += [("time", pa.string()), ("group", pa.string()), ("extra", pa.map_(pa.string(), pa.string()))]
        self.schema = pa.schema(columns)
        self.writer = pq.ParquetWriter(folder / "rows.parquet", self.schema, compression="zstd")
        self.waiting: list[tuple[Any, ...]] = []
        self.rows = self.characters = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if error[0] is None:
            self._flush()
        self.writer.close()

    def add(self, place: str, split: str, row: Fitted) -> None:
        extra = list(row.extra.items())
        own = [row.values[role] for role in self.roles]
        self.waiting.append((self.rows, place, split, *own, row.time, row.group, extra))
        self.rows += 1
        self.characters += row.characters
        if len(self.waiting) == BATCH or self.characters > BATCH_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if self.waiting:
            columns = zip(*self.waiting, strict=True)
            arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
            self.writer.write_batch(pa.record_batch(arrays, schema=self.schema), row_group_size=len(self.waiting))
        self.waiting, self.characters = [], 0


def _line(place: str, fault: Fault) -> bytes:
    """A line of quarantine.jsonl; half a surrogate pair stays what it was, as an escape."""
    line = {"place": place, "reason": fault.reason, "detail": fault.detail, "row": fault.found}
    try:
        spelled = json.dumps(line, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        spelled = json.dumps(line | {"row": repr(fault.found)}, ensure_ascii=False)
    return spelled.encode(errors="backslashreplace") + b"\n"


Found = tuple[str, str, Row | Fault]  # place, split


def everything(parts: list[Part]) -> Iterator[Found]:
    """What stands in all parts, one after the other."""
    done = 0
    with _progress(sum(map(sources.size, parts))) as show:
        for part in parts:
            if part.format == "hub":
                yield from _of_hub(part)
            else:
                yield from _of_file(part, show, done)
            done += sources.size(part)


def _of_file(part: Part, show: Callable[[int], None], done: int) -> Iterator[Found]:
    with sources.opened(part) as path, path.open("rb") as file:
        for count, found in enumerate(READERS[part.format](file, part.name)):
            yield f"{part.name}:{found.number}", part.split, found
            if count % BATCH == 0:
                show(done + file.tell())


def _of_hub(part: Part) -> Iterator[Found]:
    name = part.uri.removeprefix("hf://").rpartition("@")[0]
    datasets = hub.splits(name, part.fingerprint)
    for own, split in sources.chosen(datasets).items():
        if part.split and split not in ("", part.split):
            continue
        for found in hub.rows(datasets[own], name):
            yield f"{part.name}/{own}:{found.number}", part.split or split, found


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int], None]]:
    """Something to tell the bytes that are done: a line on a terminal for a large source, else nothing."""
    if total < WATCHED or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("ingest"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task("ingest", total=total)
        yield lambda done: bar.update(line, completed=done)
