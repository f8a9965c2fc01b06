"""Every row once, in an order that is known before the run."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tasks.data import batches, shards
from tasks.encoding import Encoded
from tests import makers

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=300).map(np.array)
Ints = npt.NDArray[np.int64]


@examples(max_examples=100, deadline=None)
@given(lengths=LENGTHS, batch=st.integers(1, 20), seed=st.integers(0, 9), epoch=st.integers(0, 3))
def test_an_epoch_holds_every_row_once(lengths: Ints, batch: int, seed: int, epoch: int) -> None:
    rows = np.arange(len(lengths))
    found = batches.epoch_of(rows, lengths, batch, seed, epoch)
    assert sorted(np.concatenate(found).tolist()) == rows.tolist()
    assert len(found) == -(-len(rows) // batch)
    assert max(map(len, found)) <= batch


@pytest.mark.parametrize("sorted_", [True, False])
def test_the_order_is_a_function_of_seed_and_epoch_alone(sorted_: bool) -> None:
    rows, lengths = np.arange(500), np.random.default_rng(0).integers(1, 60, 500)

    def order(seed: int, epoch: int) -> list[int]:
        np.random.seed(seed * 31 + epoch)  # another's generator must not matter
        found = batches.epoch_of(rows, lengths if sorted_ else None, 16, seed, epoch)
        return [int(row) for rows_ in found for row in rows_]

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_rows_of_near_length_come_together() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 5000)
    rows = np.arange(5000)

    def computed(found: list[Ints]) -> int:
        return sum(len(each) * int(lengths[each].max()) for each in found)

    plain = np.random.default_rng(1).permutation(rows)
    ours = computed(batches.epoch_of(rows, lengths, 16, seed=0, epoch=0))
    assert ours < 1.05 * lengths.sum() < 0.6 * computed([plain[at : at + 16] for at in range(0, 5000, 16)])


def test_batches_of_an_epoch_do_not_come_sorted_by_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 5000)
    longest = [int(lengths[each].max()) for each in batches.epoch_of(np.arange(5000), lengths, 16, 0, 0)]
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.2


@examples(max_examples=100, deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 200))
def test_the_budget_counts_padding_and_only_a_row_longer_than_it_goes_over(lengths: Ints, budget: int) -> None:
    found = list(batches.by_budget(lengths, budget))
    assert sorted(np.concatenate(found).tolist()) == list(range(len(lengths)))
    for rows in found:
        assert len(rows) * lengths[rows].max() <= budget or len(rows) == 1


@examples(max_examples=200, deadline=None)
@given(lengths=LENGTHS, budget=st.integers(1, 200), most=st.integers(1, 40))
def test_parts_of_a_batch_take_the_longest_rows_that_still_fit(lengths: Ints, budget: int, most: int) -> None:
    rows = np.arange(len(lengths)) + 1000
    parts = batches.parted(rows, lengths, budget, most)
    tokens = [[int(lengths[row - 1000]) for row in part] for part in parts]
    assert sorted(np.concatenate(parts).tolist()) == rows.tolist()
    assert [length for part in tokens for length in part] == sorted(lengths.tolist(), reverse=True)
    for part, later in pairwise([*tokens, [budget]]):
        assert (len(part) <= most and sum(part) <= budget) or len(part) == 1
        assert len(part) == most or sum(part) + later[0] > budget


def test_a_subset_is_drawn_by_its_seed() -> None:
    first, again, other = (batches.subset(1000, 50, seed) for seed in (7, 7, 8))
    assert len(set(first.tolist())) == 50
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize("at_most", [None, 10, 11])
def test_a_subset_of_all_rows_is_all_of_them(at_most: int | None) -> None:
    assert batches.subset(10, at_most, seed=3).tolist() == list(range(10))


def test_padding_has_no_mask_and_no_label(tmp_path: Path) -> None:
    with shards.Writer(tmp_path / "rows", 100) as writer:
        makers.add(writer, [[5, 6, 7], [8]], [1, 0])
    with shards.Writer(tmp_path / "tokens", 100, "tokens") as writer:
        makers.add(writer, [[5, 6, 7], [8]], [-100, 2, 3, 4])
    by_row = batches.padded(shards.read(tmp_path / "rows"), np.array([1, 0]), pad=9)
    assert by_row.ids.tolist() == [[8, 9, 9], [5, 6, 7]]
    assert by_row.mask.tolist() == [[1, 0, 0], [1, 1, 1]]
    assert by_row.labels.tolist() == [0, 1]
    by_token = batches.padded(shards.read(tmp_path / "tokens"), np.array([1, 0]), pad=9)
    assert by_token.labels.tolist() == [4, -100, 2, 3]


def test_sequences_of_a_row_come_together_with_their_segments_and_the_number_of_their_row(tmp_path: Path) -> None:
    with shards.Writer(tmp_path / "rows", 100) as writer:
        tokens, types = np.array([5, 6, 7, 8, 9, 4]), np.array([0, 1, 0, 0, 1, 0])
        writer.append(tokens, np.array([2, 1, 2, 1]), np.array([0, 1, 0]), types, groups=np.array([1, 2, 1]))
    found = batches.padded(shards.read(tmp_path / "rows"), np.array([1, 0]), pad=0)
    assert found.ids.tolist() == [[7, 0], [8, 9], [5, 6]]
    assert found.types is not None
    assert found.groups is not None
    assert found.types.tolist() == [[0, 0], [0, 1], [0, 1]]
    assert found.groups.tolist() == [0, 0, 1]
    assert (found.lengths.tolist(), found.labels.tolist()) == ([1, 2, 2], [1, 0])


def test_a_batch_with_targets_has_their_labels_and_is_read_where_there_are_some(tmp_path: Path) -> None:
    with shards.Writer(tmp_path / "rows", 100, "none") as writer:
        tokens, labels = np.array([1, 5, 6, 1, 7], np.uint32), np.array([5, 6, 2, -100, 2])
        target = Encoded(tokens, np.array([3, 2]), np.zeros(2, bool), labels)
        writer.append(np.array([9, 8, 9]), np.array([1, 2]), target=target)
    found = batches.labelled(batches.padded(shards.read(tmp_path / "rows"), np.array([1, 0]), pad=0))
    assert found.ids.tolist() == [[8, 9], [9, 0]]
    assert found.answered.ids.tolist() == [[1, 7, 0], [1, 5, 6]]
    assert found.read is not None
    assert (found.labels.tolist(), found.read.tolist()) == ([2, 5, 6, 2], [1, 2, 3, 4])


def test_a_shard_of_some_rows_gives_the_batches_that_they_gave(tmp_path: Path) -> None:
    with shards.Writer(tmp_path / "grouped", 100) as writer:
        tokens, types = np.array([5, 6, 7, 8, 9, 4]), np.array([0, 1, 0, 0, 1, 0])
        writer.append(tokens, np.array([2, 1, 2, 1]), np.array([0, 1, 2]), types, groups=np.array([1, 2, 1]))
    with shards.Writer(tmp_path / "tagged", 100, "tokens") as writer:
        makers.add(writer, [[5, 6, 7], [8], [9, 4]], [-100, 2, 3, 4, 5, 6])
    with shards.Writer(tmp_path / "targeted", 100, "none") as writer:
        said, labels = np.array([1, 5, 6, 1, 7, 1], np.uint32), np.array([5, 6, 2, 3, 2, 4])
        target = Encoded(said, np.array([3, 2, 1]), np.zeros(3, bool), labels)
        writer.append(np.array([9, 8, 9, 7]), np.array([1, 2, 1]), target=target)
    for name in ("grouped", "tagged", "targeted"):
        whole = shards.read(tmp_path / name)
        some = batches.taken(whole, np.array([2, 1]))
        assert some.sizes.tolist() == whole.sizes[[2, 1]].tolist()
        assert repr(batches.padded(some, np.array([1, 0]), 0)) == repr(batches.padded(whole, np.array([1, 2]), 0))
