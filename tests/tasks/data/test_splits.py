"""Splits depend on what rows are, not on where they stand; adding rows moves none."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tasks import recipe
from tasks.data import splits
from tasks.data.splits import AUTOMATIC, TEST, TRAIN, UNNAMED, VALIDATION
from tasks.errors import BadInput

HASHES = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=200, unique=True)
SHARES = st.tuples(st.floats(0, 0.5), st.floats(0, 0.45))


def hashes(count: int, seed: int = 1) -> NDArray[np.uint64]:
    return np.random.default_rng(seed).integers(0, 2**64, count, dtype=np.uint64)


def traits(count: int, named: NDArray[np.int8] | None = None, labels: int = 2) -> splits.Traits:
    some = hashes(count)
    return splits.Traits(
        np.full(count, UNNAMED, np.int8) if named is None else named,
        some,
        np.arange(count) % labels,
        some // np.uint64(2**60),
        np.arange(count),
    )


def data(**fields: object) -> recipe.Data:
    return recipe.Data(source="x", **fields)  # type: ignore[arg-type]


def test_points_are_known_numbers_spread_evenly_and_other_for_another_seed() -> None:
    zero = np.zeros(1, np.uint64)
    assert splits.points(zero, 0)[0] == pytest.approx(0xE220A8397B1DCDAF / 2**64)  # splitmix64's published first output
    at = splits.points(hashes(100_000), 0)
    assert np.abs(np.histogram(at, 10, (0, 1))[0] / 10_000 - 1).max() < 0.05
    assert abs(np.corrcoef(at, splits.points(hashes(100_000), 1))[0, 1]) < 0.02


@given(HASHES, SHARES, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_nothing(values: list[int], shares: tuple[float, float], random: object) -> None:
    order = np.arange(len(values))
    random.shuffle(order)  # type: ignore[attr-defined]
    some, strata = np.array(values, np.uint64), np.arange(len(values)) % 3
    codes = splits.stratified(splits.points(some, 7), strata, *shares)
    shuffled = splits.stratified(splits.points(some[order], 7), strata[order], *shares)
    assert (shuffled == codes[order]).all()


def test_adding_rows_moves_no_row_of_a_large_label() -> None:
    some = hashes(20_000)
    at, strata = splits.points(some, 0), np.arange(20_000) % 4
    before = splits.stratified(at[:10_000], strata[:10_000], 0.1, 0.1)
    after = splits.stratified(at, strata, 0.1, 0.1)
    assert (after[:10_000] == before).all()
    assert np.bincount(after) / 20_000 == pytest.approx([0.8, 0.1, 0.1], abs=0.01)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_a_small_label_gives_between_half_and_twice_its_share(seed: int, rows: int) -> None:
    codes = splits.stratified(splits.points(hashes(rows), seed), np.zeros(rows, np.int64), 0.2, 0.2)
    for code in (TEST, VALIDATION):
        assert int(rows * 0.1 + 0.5) <= (codes == code).sum() <= int(rows * 0.4 + 0.5)


def test_single_rows_and_pairs_of_a_label_stay_in_train() -> None:
    for seed in range(200):
        assert (splits.stratified(splits.points(hashes(4), seed), np.array([0, 1, 2, 2]), 0.1, 0.1) == TRAIN).all()


def test_a_group_stays_together_and_never_changes_sides() -> None:
    groups = np.repeat(hashes(500), 4)
    codes = splits.divide(
        traits(2000)._replace(groups=groups), "group", recipe.SplitBy(validation=0.2, test=0.2), grouped=True
    )
    assert (codes.reshape(500, 4) == codes[::4, None]).all()
    fewer = splits.divide(
        traits(1000)._replace(groups=groups[:1000]), "group", recipe.SplitBy(validation=0.2, test=0.2), grouped=True
    )
    assert (fewer == codes[:1000]).all()
    assert set(codes) == {TRAIN, VALIDATION, TEST}


@given(st.lists(st.integers(0, 30), min_size=3, max_size=100), SHARES)
def test_times_run_from_train_to_test_and_equal_ones_stay_together(
    times: list[int], shares: tuple[float, float]
) -> None:
    moments = np.array(times)
    codes = splits.by_time(moments, *shares)
    order = np.argsort(moments, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    assert all(len(set(codes[moments == moment])) == 1 for moment in set(times))


def test_time_borders_fall_as_near_to_the_shares_as_equal_times_let_them() -> None:
    assert np.bincount(splits.by_time(np.arange(100), 0.1, 0.2)).tolist() == [70, 10, 20]
    days = np.repeat([1, 2, 3, 4], [50, 30, 15, 5])
    assert np.bincount(splits.by_time(days, 0.1, 0.1)).tolist() == [80, 15, 5]
    assert np.bincount(splits.by_time(np.array([1, 1, 1, 1, 2, 3]), 0.1, 0.1)).tolist() == [4, 1, 1]


def test_given_splits_stay_and_what_is_missing_is_carved_out_of_train() -> None:
    named = np.array([TRAIN] * 900 + [TEST] * 100, np.int8)
    split = splits.to_carve(named, "given", recipe.SplitBy(validation=0.2, test=0.3))
    assert (split.validation, split.test) == (0.2, 0.0)
    codes = splits.divide(traits(1000, named), "given", split, grouped=False)
    assert (codes[900:] == TEST).all()
    assert np.bincount(codes[:900]) == pytest.approx([720, 180], abs=30)


def test_carving_keeps_groups_together_where_there_are_groups() -> None:
    named = np.full(1000, TRAIN, np.int8)
    some = traits(1000, named)
    codes = splits.divide(some, "given", recipe.SplitBy(validation=0.3, test=0.3), grouped=True)
    assert all(len(set(codes[some.groups == group])) == 1 for group in set(some.groups))
    assert len(set(codes)) == 3


def test_another_seed_divides_otherwise_and_the_same_seed_alike() -> None:
    one, same, other = (
        splits.divide(traits(1000), "stratified", recipe.SplitBy(seed=seed), grouped=False) for seed in (1, 1, 2)
    )
    assert (one == same).all()
    assert (one != other).any()


def test_auto_takes_the_splits_of_the_source_or_else_labels_or_groups() -> None:
    assert splits.method(data(), named=True) == "given"
    assert splits.method(data(), named=False) == "stratified"
    assert splits.method(data(group="customer"), named=False) == "group"


@pytest.mark.parametrize(
    ("by", "code"), [("given", "E-SPLIT-GIVEN"), ("time", "E-SPLIT-COLUMN"), ("group", "E-SPLIT-COLUMN")]
)
def test_a_way_that_the_source_or_the_recipe_does_not_allow_is_refused(by: str, code: str) -> None:
    with pytest.raises(BadInput) as error:
        splits.method(data(split=recipe.SplitBy(by=by)), named=False)  # type: ignore[arg-type]
    assert error.value.code == code


@pytest.mark.parametrize("by", ["given", "stratified", "group", "time"])
def test_rows_that_were_labelled_automatically_train_and_the_others_are_divided_as_without_them(
    by: splits.Method,
) -> None:
    named = np.resize(np.array([UNNAMED, VALIDATION, TEST, AUTOMATIC], np.int8), 1000)
    some, split = traits(1000, named), recipe.SplitBy(validation=0.2, test=0.2)
    automatic = named == AUTOMATIC
    codes = splits.divide(some, by, split, grouped=False)
    assert (codes[automatic] == TRAIN).all()
    assert (codes[~automatic] == splits.divide(some.at(~automatic), by, split, grouped=False)).all()
    assert set(codes) == {TRAIN, VALIDATION, TEST}
