"""validate: a Snapshot becomes Checked, or is refused with everything that is wrong with it in one line.

Rows with a fault, repetitions and leaks go to the quarantine with a reason each; the rest gets its split. The file of
rows is streamed: once to survey it, in part to compare texts, once to write. What stays in memory is 85 bytes a row
(digests, codes, lengths; 60 more in passing) and, while leaks are sought, 24 for each word of validation and test;
no text. Measured on 2 shared cores, CPU seconds: sst2 (70 k rows) 1.8, banking77 (13 k) 0.5, conll2003 (21 k) 1.5,
500,000 rows of 20 words 28 with 220 MB at the peak.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shutil import copyfile, copyfileobj
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.settings import settings
from tasks import problems, stages
from tasks.data import duplicates, rules, splits
from tasks.data.survey import (
    BATCH,
    FATES,
    KEPT,
    Survey,
    answers_of,
    batches,
    look,
    rows_of,
    some_tag_is_prefixed,
    texts_of,
)
from tasks.errors import BadInput, listed
from tasks.problems.contract import NAMED, Problem
from tasks.recipe import Data, Rules, Task
from tasks.records import Checked, Snapshot, canonical
from tasks.verb import verb

DUPLICATE, LEAK_EXACT, LEAK_NEAR, LEAK_GROUP, LEAK_TIME = range(FATES.index("duplicate"), len(FATES))
SHOWN = 10

log = logging.getLogger("vernal.validate")


@verb
def validate(snapshot: Snapshot, task: Task, data: Data, rules: Rules) -> Checked:
    """The rows that keep every rule, each in its split.

    Raises:
        BadInput: E-DATA-EMPTY, E-DATA-BADROWS, E-SPLIT-GIVEN, -COLUMN or -EMPTY, E-LEAK, E-LABELS, E-LABELS-ONE or
            E-CLASS-MIN; the first of several is the code, and all stand in the message.
    """
    key = stages.validate(snapshot, task, data, rules)
    return stages.once(key, lambda folder: check(snapshot, task, data, rules, folder))


def check(snapshot: Snapshot, task: Task, data: Data, wanted: Rules, folder: Path) -> Checked:
    """`validate` in an empty `folder`, whether done before or not."""
    log.info("%d rows of %s", snapshot.rows, ", ".join(sorted(snapshot.inputs)))
    problem = problems.named(task)
    rows = stages.open_file(snapshot.files["rows.parquet"])
    form = rules.Form.of(problem, data, wanted, prefixed=some_tag_is_prefixed(rows, problem))
    survey = look(rows, form)
    plan = decide(rows, survey, data, wanted, problem)
    copyfile(stages.open_file(snapshot.files["quarantine.jsonl"]), folder / "quarantine.jsonl")
    ingested = _ingested(folder / "quarantine.jsonl")
    written = write(rows, plan, form, folder)
    labels = rules.label_names(written.tally, problem, wanted.labels)
    if broken := _broken(snapshot, problem, wanted, ingested, written, labels):
        raise BadInput(broken[0].code, _told(broken) + _saved(snapshot, folder / "quarantine.jsonl"))
    profile = _profile(rows, survey, plan, written, data, ingested.counts)
    (folder / "profile.json").write_bytes(canonical(profile))
    quarantined = snapshot.quarantined + written.refused.total()
    counts = {split: written.tally.rows[split] for split in splits.NAMES}
    log.info("%s; %d quarantined: %s", counts, quarantined, profile["quarantine"])
    return Checked.of(
        stages.keep(folder), parents=(snapshot.digest,), rows=counts, quarantined=quarantined, labels=labels
    )


class Plan(NamedTuple):
    """What becomes of each row: its fate, its split (meant, if it is not kept) and the row it repeats."""

    by: splits.Method
    fates: NDArray[np.int8]
    splits: splits.Codes
    partners: NDArray[np.int64]
    similarity: dict[int, float]
    texts: NDArray[np.int64]
    answers: NDArray[np.int64]


def decide(path: Path, survey: Survey, data: Data, wanted: Rules, problem: Problem) -> Plan:
    """The fate and the split of every row: repetitions first, then splits, then leaks.

    Rows of a published validation or test set stay whole. What a person said of a text goes before what a model said of
    it. A row that a model labelled does not train where validation or test, unless they were published, have its group,
    nor, where time divides, if it is no older than they are; that is a part of dividing, whatever `rules.leaks` says,
    since a person's row would not train there either.

    Raises:
        BadInput: E-SPLIT-GIVEN or E-SPLIT-COLUMN.
    """
    by = splits.method(data, bool((survey.named > splits.UNNAMED).any()))
    texts = np.unique(survey.digests, return_inverse=True)[1].astype(np.int64)
    answers = np.unique(survey.answers, return_inverse=True)[1].astype(np.int64)
    codes = np.full(len(texts), splits.UNNAMED, np.int8)
    plan = Plan(by, survey.fates.copy(), codes, np.full(len(texts), duplicates.NONE), {}, texts, answers)
    published = (survey.named > splits.TRAIN) & (by == "given")
    if wanted.duplicates == "drop":
        said = (plan.fates == KEPT) & ~survey.automatic
        _refuse(plan, DUPLICATE, duplicates.twins(texts, (plan.fates == KEPT) & survey.automatic, said))
        ranks = splits.ranks(survey.traits, by, data.split.seed)
        _refuse(plan, DUPLICATE, duplicates.repeats(texts, answers, (plan.fates == KEPT) & ~published, ranks))
    kept = plan.fates == KEPT
    carve = splits.to_carve(survey.named, by, data.split)
    codes[kept] = splits.divide(survey.traits.at(kept), by, carve, data.group is not None)
    held = kept & (codes > splits.TRAIN) & ~published
    if by == "time" and held.any():
        first = np.flatnonzero(held)[np.argmin(survey.times[held])]
        late = kept & survey.automatic & (survey.times >= survey.times[first])
        _refuse(plan, LEAK_TIME, np.where(late, first, duplicates.NONE))
    elif data.group is not None:
        groups = np.unique(survey.groups, return_inverse=True)[1].astype(np.int64)
        _refuse(plan, LEAK_GROUP, duplicates.twins(groups, kept & survey.automatic, held))
    if wanted.leaks != "keep":
        if carve.validation:
            _find_leaks(path, plan, splits.VALIDATION, wanted.similarity, problem)
        _find_leaks(path, plan, splits.TRAIN, wanted.similarity, problem)
    return plan


class Refused(NamedTuple):
    """Quarantined rows: reason -> rows, and the first of them in words."""

    counts: Counter[str]
    first: list[str]

    def add(self, reason: str, place: str, detail: str) -> None:
        self.counts[reason] += 1
        if len(self.first) < SHOWN:
            self.first.append(f"{place} {detail}")


class Written(NamedTuple):
    """What `write` wrote: kept rows, and those with a fault, those that leak and those that are only not needed."""

    tally: rules.Tally
    faults: Refused
    leaks: Refused
    spared: Refused

    @property
    def refused(self) -> Counter[str]:
        return self.faults.counts + self.leaks.counts + self.spared.counts

    def kind(self, fate: int) -> Refused:
        return self.faults if fate < DUPLICATE else self.leaks if fate in (LEAK_EXACT, LEAK_NEAR) else self.spared


def write(path: Path, plan: Plan, form: rules.Form, folder: Path) -> Written:
    """Kept rows into a file for each split (labels in NFC), the others behind the lines of quarantine.jsonl."""
    written = Written(rules.Tally(), *(Refused(Counter(), []) for _ in range(3)))
    partners = _places(path, plan.partners[plan.partners != duplicates.NONE])
    parts = _Parts(folder, pq.read_schema(path))
    with (folder / "quarantine.jsonl").open("ab") as quarantine:
        for start, batch in batches(path):
            fates, codes = plan.fates[start : start + len(batch)], plan.splits[start : start + len(batch)]
            found = rows_of(batch, form.problem)
            named = answers_of(batch, form.problem) if form.problem.labelled else [[]] * len(batch)
            for i in np.flatnonzero(fates != KEPT):
                reason, detail = _why(plan, start + int(i), found[i], form, partners)
                place = batch["place"][int(i)].as_py()
                written.kind(fates[i]).add(reason, place, detail)
                line = {"place": place, "reason": reason, "detail": detail, "row": _as_found(batch, int(i))}
                quarantine.write(canonical(line) + b"\n")
            for code, split in enumerate(splits.NAMES):
                mine = (fates == KEPT) & (codes == code)
                parts.add(split, _composed(batch.filter(pa.array(mine)), form.problem))
                for i in np.flatnonzero(mine):
                    written.tally.add(split, named[i], tagged=form.problem.tagged)
    parts.close()
    return written


def _refuse(plan: Plan, fate: int, partners: NDArray[np.int64]) -> None:
    rows = np.flatnonzero(partners != duplicates.NONE)
    plan.fates[rows] = fate
    plan.partners[rows] = partners[rows]


def _find_leaks(path: Path, plan: Plan, split: int, similarity: float, problem: Problem) -> None:
    """Mark the kept rows of `split` that (nearly) stand in a later one."""
    suspects, held = ((plan.fates == KEPT) & which for which in (plan.splits == split, plan.splits > split))
    exact = duplicates.twins(plan.texts, suspects, held)
    _refuse(plan, LEAK_EXACT, exact)
    if similarity == 1 or not held.any():
        return
    index = duplicates.Index(duplicates.joined(_grams(path, held, problem)))
    for sets in _grams(path, suspects & (exact == duplicates.NONE), problem):
        for match in index.matches(sets, similarity):
            plan.fates[match.row] = LEAK_NEAR
            plan.partners[match.row] = match.other
            plan.similarity[match.row] = match.similarity


def _grams(path: Path, which: NDArray[np.bool_], problem: Problem) -> Iterator[duplicates.Grams]:
    for start, batch in batches(path, tuple(problem.inputs)):
        mine = which[start : start + len(batch)]
        if mine.any():
            texts = [duplicates.fold(text) for text in texts_of(batch.filter(pa.array(mine)), problem)]
            yield duplicates.grams(texts, start + np.flatnonzero(mine))


def _places(path: Path, rows: NDArray[np.int64]) -> dict[int, str]:
    """Where these rows were found: row -> place."""
    wanted = np.unique(rows)
    found: dict[int, str] = {}
    for start, batch in batches(path, ["place"]) if len(wanted) else ():
        mine = wanted[slice(*np.searchsorted(wanted, [start, start + len(batch)]))]
        found.update(zip(mine.tolist(), batch["place"].take(pa.array(mine - start)).to_pylist(), strict=True))
    return found


def _why(plan: Plan, row: int, found: rules.Row, form: rules.Form, places: Mapping[int, str]) -> rules.Fault:
    fault = rules.row_fault(found, form)
    if fault:
        return fault
    reason, other = FATES[plan.fates[row]], int(plan.partners[row])
    if reason == "duplicate":
        return rules.Fault(reason, f"repeats {places[other]}")
    if reason == "leak-group":
        alike = "is of the group of"
    elif reason == "leak-time":
        alike = "is no older than"
    else:
        alike = f"{plan.similarity[row]:.2f} like" if row in plan.similarity else "equals"
    return rules.Fault(reason, f"{alike} {places[other]} ({splits.NAMES[plan.splits[other]]})")


def _as_found(batch: pa.RecordBatch, i: int) -> Any:
    row = {name: value for name, value in batch.slice(i, 1).to_pylist()[0].items() if name not in ("row", "place")}
    return row | {"extra": dict(row["extra"] or ())}


def _composed(batch: pa.RecordBatch, problem: Problem) -> pa.RecordBatch:
    """The batch with what is of the label set in NFC."""
    for name, kind in problem.answers.items():
        if kind not in NAMED:
            continue
        column = batch[name]
        labels = column if kind == "label" else column.flatten()
        if pc.all(pc.string_is_ascii(labels)).as_py() is not False:
            continue
        # not pc.utf8_normalize: its NFC decomposes (pyarrow 25.0)
        labels = pa.array([rules.composed(label) for label in labels.to_pylist()], labels.type)
        if kind != "label":
            offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(column).to_numpy())])
            labels = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), labels).cast(column.type)
        place = batch.schema.get_field_index(name)
        batch = batch.set_column(place, batch.schema.field(name), labels)
    return batch


class _Parts:
    """A Parquet file for each split, written a batch at a time."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.schema = schema
        self.writers = {s: pq.ParquetWriter(folder / f"{s}.parquet", schema, compression="zstd") for s in splits.NAMES}
        self.waiting: dict[str, list[pa.RecordBatch]] = {split: [] for split in splits.NAMES}

    def add(self, split: str, batch: pa.RecordBatch) -> None:
        self.waiting[split].append(batch)
        if sum(map(len, self.waiting[split])) >= BATCH:
            self._flush(split)

    def close(self) -> None:
        for split, writer in self.writers.items():
            self._flush(split)
            writer.close()

    def _flush(self, split: str) -> None:
        table = pa.Table.from_batches(self.waiting[split], self.schema)
        if len(table):
            self.writers[split].write_table(table, row_group_size=len(table))
        self.waiting[split] = []


def _ingested(quarantine: Path) -> Refused:
    refused = Refused(Counter(), [])
    with quarantine.open("rb") as lines:
        for line in lines:
            fault = json.loads(line)
            refused.add(fault["reason"], fault["place"], fault["detail"])
    return refused


def _broken(
    snapshot: Snapshot, problem: Problem, wanted: Rules, ingested: Refused, written: Written, labels: Sequence[str]
) -> list[rules.Broken]:
    read = snapshot.rows + snapshot.quarantined
    if not read:
        return [rules.Broken("E-DATA-EMPTY", "the source has no rows; name another one, or wait for its rows")]
    faults = ingested.counts + written.faults.counts
    bad = rules.too_many_faults(faults, read, wanted.bad_rows, (ingested.first + written.faults.first)[:3])
    found = [bad] if bad else []
    if wanted.leaks == "refuse" and written.leaks.counts:
        found.append(rules.leaked(written.leaks.counts, written.leaks.first[:3]))
    return found + rules.broken_rules(written.tally, labels, problem, wanted)


def _told(broken: Sequence[rules.Broken]) -> str:
    return listed([broken[0].message, *(f"{code} {message}" for code, message in broken[1:])])


def _saved(snapshot: Snapshot, quarantine: Path) -> str:
    """Keep the quarantine of a refused dataset where a person finds it, and say where."""
    if not quarantine.stat().st_size:
        return ""
    stages.put(quarantine)
    path = settings().home.absolute() / "quarantine" / f"{snapshot.digest.removeprefix('sha256:')[:12]}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with quarantine.open("rb") as source, path.open("wb") as target:
        copyfileobj(source, target)
    return f"; every refused row: {path}"


def _profile(
    path: Path, survey: Survey, plan: Plan, written: Written, data: Data, ingested: Counter[str]
) -> dict[str, Any]:
    """The dataset in numbers: what drift is measured against, and what a model card shows."""
    kept = plan.fates == KEPT
    torn = duplicates.conflicts(plan.texts, plan.answers, kept)
    first = [run[:SHOWN] for run in torn[:SHOWN]]
    places = _places(path, np.concatenate([np.empty(0, np.int64), *first]))
    mine = {split: kept & (plan.splits == code) for code, split in enumerate(splits.NAMES)}
    automatic = int((kept & survey.automatic).sum())
    return {
        **({"automatic": automatic} if automatic else {}),
        "split": plan.by,
        "rows": {split: int(which.sum()) for split, which in mine.items()},
        "labels": {split: dict(counts) for split, counts in written.tally.labels.items()},
        "quarantine": dict(ingested + written.refused),
        "characters": {split: _lengths(survey.characters[which]) for split, which in mine.items()},
        "words": {split: _lengths(survey.words[which]) for split, which in mine.items()},
        "conflicts": {"texts": len(torn), "places": [[places[int(row)] for row in run] for run in first]},
        "spaced": float(survey.spaced[kept].mean()),
        "time": {split: _range(survey.times[which]) for split, which in mine.items()} if data.time else {},
    }


def _lengths(values: NDArray[np.int32]) -> dict[str, int]:
    points = np.quantile(values, [0, 0.5, 0.95, 1], method="inverted_cdf")
    return dict(zip(("min", "median", "p95", "max"), map(int, points), strict=True))


def _range(times: NDArray[np.int64]) -> list[str]:
    return [rules.spelled(int(times.min())), rules.spelled(int(times.max()))]
