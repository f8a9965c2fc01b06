"""Who learns and who examines: every row gets its split from what stands in it, never from where it stands.

    given        the splits that the source names; a missing validation or test is carved out of train (as below)
    stratified   per label (tags: with or without an entity) by a hash of the folded text
    group        whole groups, by a hash of the group's name
    time         the oldest rows train, the newest test; equal times stay together

`auto` means given where the source names splits, else stratified. Where data.group names a column, `stratified` and
carving go by group, since the recipe promises that a group stays in one split.

Hash: a text falls at a fixed point of [0, 1); below `test` it is a test row, in the next `validation` it validates,
else it trains. So adding rows moves none: no champion has trained on what examines its challenger. The price is that
shares are met only on the average (0.1 of 1,000 rows: 100 ± 10). A label that would give less than half or more than
twice its share gives that half or double, in the order of the points; where 50 rows or more are wanted this does not
happen (chance below 1 in 10,000), below it single rows at the border may move when rows are added. Equal texts fall on
one side. Where they come from several groups or times, the copy that is kept is the one nearest to train: so a row that
is added may bring a text from test into train, and never one that was learned into test.

Rows that were labelled automatically train, whatever the way and wherever they stand: examined by the answers of a
model, another would be asked how well it imitates them. The other rows are divided as if there were no such. Those that
do not belong in train, by their group or their time, `validate` leaves out.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tasks import recipe
from tasks.errors import BadInput

Codes = NDArray[np.int8]
Method = Literal["given", "stratified", "group", "time"]

NAMES = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
UNNAMED, AUTOMATIC = -1, -2
LABELLED_BY_A_MODEL = "automatic"  # what stands in the place of a split's name
NAMED = {"": UNNAMED, LABELLED_BY_A_MODEL: AUTOMATIC, "train": TRAIN, "validation": VALIDATION, "test": TEST}


class Traits(NamedTuple):
    """What a split may be chosen by, one entry a row."""

    named: Codes  # the source's split, UNNAMED if none, AUTOMATIC whatever it is
    texts: NDArray[np.uint64]  # hash of the folded text
    strata: NDArray[np.int64]  # label
    groups: NDArray[np.uint64]  # hash of the group's name
    times: NDArray[np.int64]  # microseconds since 1970

    def at(self, rows: NDArray[np.bool_]) -> "Traits":
        return Traits(self.named[rows], self.texts[rows], self.strata[rows], self.groups[rows], self.times[rows])


def method(data: recipe.Data, named: bool) -> Method:
    """How this dataset is divided; `named`: its source names splits.

    Raises:
        BadInput: E-SPLIT-GIVEN, E-SPLIT-COLUMN.
    """
    by = data.split.by
    if by == "auto":
        by = "given" if named else "stratified"
    if by == "given" and not named:
        message = "data.split.by is given, but the source names no splits; name a file for each, or choose another way"
        raise BadInput("E-SPLIT-GIVEN", message)
    if by in ("group", "time") and (data.group if by == "group" else data.time) is None:
        raise BadInput("E-SPLIT-COLUMN", f"data.split.by is {by}, but data.{by} names no column; name it")
    return "group" if by == "stratified" and data.group is not None else by


def to_carve(named: Codes, by: Method, split: recipe.SplitBy) -> recipe.SplitBy:
    """`split` with a share of 0 for what the source itself gives."""
    given = [name for name in ("validation", "test") if by == "given" and (named == NAMED[name]).any()]
    return split.model_copy(update=dict.fromkeys(given, 0.0))


def divide(traits: Traits, by: Method, split: recipe.SplitBy, grouped: bool) -> Codes:
    """The split of every row; independent of the order of rows.

    `split`: its shares are those of validation and test rows among the rows to be divided; where they are given: 0.
    `grouped`: rows carry a group, so a validation or test that is not given is carved by it.
    """
    by_hand = traits.named != AUTOMATIC
    codes = np.full(len(by_hand), TRAIN, np.int8)
    codes[by_hand] = _divided(traits.at(by_hand), by, split, grouped)
    return codes


def _divided(traits: Traits, by: Method, split: recipe.SplitBy, grouped: bool) -> Codes:
    if by == "given":
        return _given(traits, split, grouped)
    if by == "time":
        return by_time(traits.times, split.validation, split.test)
    if by == "group":
        return by_group(points(traits.groups, split.seed), split.validation, split.test)
    return stratified(points(traits.texts, split.seed), traits.strata, split.validation, split.test)


def ranks(traits: Traits, by: Method, seed: int) -> NDArray[Any]:
    """Which of several rows that say the same is kept: the surest to train, since the champion may have learned it."""
    return traits.times if by == "time" else -points(traits.groups, seed)


def points(hashes: NDArray[np.uint64], seed: int) -> NDArray[np.float64]:
    """A point of [0, 1) for each hash, another one for each seed (splitmix64)."""
    mixed = hashes + np.uint64((seed + 1) * 0x9E3779B97F4A7C15 % 2**64)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return ((mixed ^ (mixed >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def by_group(at: NDArray[np.float64], validation: float, test: float) -> Codes:
    """Test below `test`, validation in the next `validation`: equal points, equal split."""
    codes = np.full(len(at), TRAIN, np.int8)
    codes[at < validation + test] = VALIDATION
    codes[at < test] = TEST
    return codes


def stratified(at: NDArray[np.float64], strata: NDArray[np.int64], validation: float, test: float) -> Codes:
    """As `by_group`, but no stratum gives less than half or more than twice its share (rounded)."""
    codes = np.full(len(at), TRAIN, np.int8)
    order = np.lexsort((at, strata))
    for rows in np.split(order, np.flatnonzero(np.diff(strata[order])) + 1):
        below = np.searchsorted(at[rows], [test, test + validation])
        tests = _held(int(below[0]), test * len(rows))
        validations = min(_held(int(below[1] - below[0]), validation * len(rows)), len(rows) - tests)
        codes[rows[:tests]] = TEST
        codes[rows[tests : tests + validations]] = VALIDATION
    return codes


def by_time(times: NDArray[np.int64], validation: float, test: float) -> Codes:
    """Oldest rows train, newest test. Borders fall between two times, as near to the shares as they can."""
    moments, counts = np.unique(times, return_counts=True)
    after = np.append(np.cumsum(counts[::-1])[::-1], 0)  # rows at or after each moment
    tests = _border(after, len(moments), test * len(times), spare=2 if validation else 1)
    both = _border(after, tests, validation * len(times) + int(after[tests]), spare=1)
    codes = np.full(len(times), TRAIN, np.int8)
    which = np.searchsorted(moments, times)
    codes[which >= both] = VALIDATION
    codes[which >= tests] = TEST
    return codes


def _given(traits: Traits, split: recipe.SplitBy, grouped: bool) -> Codes:
    codes = np.where(traits.named == UNNAMED, TRAIN, traits.named).astype(np.int8)
    if not split.validation and not split.test:
        return codes
    carved = codes == TRAIN
    codes[carved] = _divided(traits.at(carved), "group" if grouped else "stratified", split, grouped)
    return codes


def _held(found: int, wanted: float) -> int:
    return min(max(found, int(wanted / 2 + 0.5)), int(wanted * 2 + 0.5))


def _border(after: NDArray[np.int64], end: int, wanted: float, spare: int) -> int:
    """The moment before `end`, and not among the first `spare`, that leaves as many rows after it as wanted."""
    if wanted <= after[end] or end <= spare:
        return end
    return spare + int(np.argmin(np.abs(after[spare:end] - wanted)))
