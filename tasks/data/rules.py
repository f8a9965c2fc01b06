"""What a row and a dataset must satisfy: pure functions, each fault with a reason that never changes.

A row has one fault at most, the first of these; what is odd but legible (rare letters, markup, emoji) is none.

    empty-text      a text of only white space, zero-width or control characters
    text-long       more characters than rules.max_characters
    label-empty     no label, or nothing visible in it
    label-form      not 1 to 64 printable characters in NFC, or blanks around it ('spam ' is not 'spam')
    label-unknown   rules.labels are given and this is none of them
    tags-empty      no tags, or a word without one
    tags-length     not as many tags as words
    tag-form        neither O nor X-NAME with X in B I E S L U; sets without any '-' (parts of speech) are free
    time-form       data.time is given and this is not ISO 8601
    group-empty     data.group is given and nothing stands here

A dataset may break several rules at once: all of them are found, so that they can be told in one error.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from tasks import recipe
from tasks.errors import listed
from tasks.problems.contract import Problem, texts_of
from tasks.records import Split

REASONS = (
    "empty-text",
    "text-long",
    "label-empty",
    "label-form",
    "label-unknown",
    "tags-empty",
    "tags-length",
    "tag-form",
    "time-form",
    "group-empty",
)
LONGEST_LABEL = 64
OUTSIDE = "O"

_NOTHING = (  # white space, controls, and what is drawn as nothing: joiners, direction marks, fillers, selectors
    r"\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    r"\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_VISIBLE = re.compile(f"[^{_NOTHING}]")
_BLANK_AROUND = re.compile(f"^[{_NOTHING}]|[{_NOTHING}]$")
_PRINTABLE = re.compile(rf"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{{1,{LONGEST_LABEL}}}")
_PREFIXED = re.compile(r"O|[BIESLU]-.+", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Row(NamedTuple):
    """A row as it was found: the values of the problem's roles, and what it may be divided by."""

    values: Mapping[str, Any]
    time: str | None = None
    group: str | None = None


class Fault(NamedTuple):
    reason: str
    detail: str


@dataclass(frozen=True)
class Form:
    """What rows are held against."""

    problem: Problem
    max_characters: int
    labels: frozenset[str] | None = None
    timed: bool = False
    grouped: bool = False
    prefixed: bool = True

    @classmethod
    def of(cls, problem: Problem, data: recipe.Data, rules: recipe.Rules, prefixed: bool) -> "Form":
        """`prefixed`: some tag of the set contains '-', so tags are entities with a prefix."""
        labels = frozenset(map(composed, rules.labels)) if rules.labels is not None else None
        return cls(problem, rules.max_characters, labels, data.time is not None, data.group is not None, prefixed)


def composed(label: str) -> str:
    """`label` in NFC: the two spellings of 'é' are one label. (No label is long; composing is quadratic.)"""
    return label if label.isascii() or len(label) > 4 * LONGEST_LABEL else unicodedata.normalize("NFC", label)


def row_fault(row: Row, form: Form) -> Fault | None:
    """The first rule that the row breaks, or None."""
    return _text_fault(row, form) or _answer_fault(row, form) or _time_fault(row, form) or _group_fault(row, form)


def instant(time: str) -> int | None:
    """Microseconds since 1970 of an ISO 8601 time or date (UTC where it names no zone), or None."""
    try:
        moment = datetime.fromisoformat(time.strip())
    except ValueError:
        return None
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def spelled(microseconds: int) -> str:
    """An instant in ISO 8601, UTC."""
    return (_EPOCH + microseconds * _MICROSECOND).isoformat()


def _text_fault(row: Row, form: Form) -> Fault | None:
    for role, kind in form.problem.roles.items():
        if kind in ("text", "words", "texts", "turns"):
            value = row.values[role]
            text = value or "" if kind == "text" else " ".join(each or "" for each in texts_of(value or (), kind))
            if len(text) > form.max_characters:
                return Fault("text-long", f"{len(text):,} characters > {form.max_characters:,}")
            if not _VISIBLE.search(text):
                return Fault("empty-text", f"{role} {text!a:.60}")
    return None


def _answer_fault(row: Row, form: Form) -> Fault | None:
    for role, kind in form.problem.answers.items():
        value = row.values[role]
        if kind == "tags":
            words = next(row.values[other] for other, its in form.problem.inputs.items() if its == "words")
            fault = _tags_fault(words, value or (), form)
        elif kind == "labels":
            fault = next(filter(None, (_label_fault(label, form) for label in value)), None)
        else:
            fault = _label_fault(value, form) if kind == "label" else None
        if fault:
            return fault
    return None


def _label_fault(label: str | None, form: Form) -> Fault | None:
    if label is None or not _VISIBLE.search(label):
        return Fault("label-empty", f"label {label!a:.60}")
    name = composed(label)
    if not _PRINTABLE.fullmatch(name) or _BLANK_AROUND.search(name):
        return Fault("label-form", f"label {_shown(label)}")
    if form.labels is not None and name not in form.labels:
        return Fault("label-unknown", f"label {_shown(label)}")
    return None


def _tags_fault(words: Sequence[str | None], tags: Sequence[str | None], form: Form) -> Fault | None:
    if not tags or None in tags or "" in tags:
        return Fault("tags-empty", f"{sum(1 for tag in tags if tag)} tags for {len(words)} words")
    if len(tags) != len(words):
        return Fault("tags-length", f"{len(tags)} tags for {len(words)} words")
    for tag in tags:
        if tag and (fault := _tag_fault(tag, form)):
            return fault
    return None


def _tag_fault(tag: str, form: Form) -> Fault | None:
    name = composed(tag)
    if not _PRINTABLE.fullmatch(name) or _BLANK_AROUND.search(name) or (form.prefixed and not _PREFIXED.match(name)):
        return Fault("tag-form", f"tag {_shown(tag)}")
    if form.labels is not None and name not in form.labels:
        return Fault("label-unknown", f"tag {_shown(tag)}")
    return None


def _time_fault(row: Row, form: Form) -> Fault | None:
    if form.timed and (row.time is None or instant(row.time) is None):
        return Fault("time-form", f"time {row.time!a:.60}, wanted ISO 8601 such as 2026-03-01T12:30:00Z")
    return None


def _group_fault(row: Row, form: Form) -> Fault | None:
    if form.grouped and (row.group is None or not _VISIBLE.search(row.group)):
        return Fault("group-empty", f"group {row.group!a:.60}")
    return None


def _shown(label: str) -> str:
    return f"{label[:LONGEST_LABEL]!r}" + (f"... ({len(label):,} characters)" if len(label) > LONGEST_LABEL else "")


@dataclass
class Tally:
    """What stands in the splits: rows, rows that hold a label (a kind of entity), and how often each label stands."""

    rows: Counter[Split] = field(default_factory=Counter)
    holding: dict[Split, Counter[str]] = field(default_factory=dict)
    labels: dict[Split, Counter[str]] = field(default_factory=dict)

    def add(self, split: Split, named: Sequence[str], *, tagged: bool = False) -> None:
        """A row, with the names of the label set that it holds; of tags the kinds of entity are held."""
        self.rows[split] += 1
        self.labels.setdefault(split, Counter()).update(named)
        self.holding.setdefault(split, Counter()).update({_kind(tag) for tag in named} if tagged else set(named))


class Broken(NamedTuple):
    """A rule that the dataset does not keep."""

    code: str
    message: str


def label_names(tally: Tally, problem: Problem, wanted: Iterable[str] | None) -> tuple[str, ...]:
    """The labels in the order of their ids: those of the recipe, else those of train, sorted; none without a label set.

    Tags: "O" first, and every kind of entity in train with every prefix in use (B- and I- at least), so that an I- that
    is only seen later has its place.
    """
    if not problem.labelled:
        return ()
    if wanted is not None:
        return tuple(dict.fromkeys(map(composed, wanted)))
    seen = set(tally.labels.get("train", ()))
    if not problem.tagged:
        return tuple(sorted(seen))
    if any("-" in tag for tag in seen):
        used = {tag[0] for split in tally.labels.values() for tag in split if "-" in tag} | {"B", "I"}
        seen |= {f"{prefix}-{_kind(tag)}" for tag in seen if "-" in tag for prefix in used}
    return tuple(sorted(seen, key=lambda tag: (tag != OUTSIDE, tag)))


def broken_rules(tally: Tally, labels: Sequence[str], problem: Problem, rules: recipe.Rules) -> list[Broken]:
    """Every rule that the divided dataset breaks: no split empty, every label learnable, none that train lacks."""
    empty = [split for split in ("train", "validation", "test") if not tally.rows[split]]
    found = [Broken("E-SPLIT-EMPTY", _empty_message(empty, tally))] if empty else []
    if "train" in empty or not problem.labelled:
        return found
    return found + _label_rules(tally, labels, problem, rules)


def too_many_faults(faults: Mapping[str, int], read: int, limit: float, first: Sequence[str]) -> Broken | None:
    """E-DATA-BADROWS if more than `limit` of the rows read are faulty (`faults`: reason -> rows)."""
    count = sum(faults.values())
    if count <= limit * read:
        return None
    reasons = listed([f"{n:,} {reason}" for reason, n in sorted(faults.items(), key=lambda item: (-item[1], item[0]))])
    return Broken(
        "E-DATA-BADROWS",
        f"{_percent(count / read)} of {read:,} rows > limit {_percent(limit)}: {reasons.replace('; ', ', ')}; "
        f"first: {', '.join(first)}; mend these rows at their source, or raise rules.bad_rows",
    )


def leaked(refused: Mapping[str, int], first: Sequence[str]) -> Broken:
    """E-LEAK: rows that stand in a later split too (`refused`: reason -> rows)."""
    told = ", ".join(f"{count:,} {reason}" for reason, count in sorted(refused.items()))
    found = f"{sum(refused.values()):,} rows stand in a later split too: {told}; first: {', '.join(first)}"
    return Broken("E-LEAK", f"{found}; take them out of the earlier split, or set rules.leaks: drop")


def _label_rules(tally: Tally, labels: Sequence[str], problem: Problem, rules: recipe.Rules) -> list[Broken]:
    found = []
    unknown = _unknown(tally, set(labels))
    if unknown:
        found.append(Broken("E-LABELS", f"train has no row of {listed(unknown)}; give it rows, or mend these labels"))
    if len(labels) > rules.max_labels:
        advice = "is the right column named? else raise rules.max_labels"
        found.append(Broken("E-LABELS", f"{len(labels):,} labels > max {rules.max_labels:,}; {advice}"))
    if len(labels) == 1:
        message = f"every row of train says {labels[0]!r}; one label teaches nothing, give it rows of another"
        found.append(Broken("E-LABELS-ONE", message))
    if rare := _rare(tally, labels, problem, rules.min_per_class):
        message = f"fewer than {rules.min_per_class} rows of train hold {listed(rare)}"
        found.append(Broken("E-CLASS-MIN", f"{message}; add rows, merge labels, or lower rules.min_per_class"))
    return found


def _unknown(tally: Tally, labels: set[str]) -> list[str]:
    return [
        f"{label!r} ({count} in {split})"
        for split in ("train", "validation", "test")
        for label, count in sorted(tally.labels.get(split, Counter()).items())
        if label not in labels
    ]


def _rare(tally: Tally, labels: Sequence[str], problem: Problem, least: int) -> list[str]:
    names = sorted({_kind(tag) for tag in labels} - {OUTSIDE}) if problem.tagged else labels
    counts = tally.holding.get("train", Counter())
    return [f"{name!r} ({counts[name]})" for name in names if counts[name] < least]


def _kind(tag: str) -> str:
    """The entity that a tag speaks of: PER of B-PER; a plain tag speaks of itself."""
    return tag[2:] if _PREFIXED.match(tag) and tag != OUTSIDE else tag


def _empty_message(empty: Sequence[str], tally: Tally) -> str:
    counts = ", ".join(f"{split} {tally.rows[split]:,}" for split in ("train", "validation", "test"))
    return f"no rows in {' and '.join(empty)} (rows: {counts}); add rows, or change data.split"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
