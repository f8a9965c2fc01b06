"""What is written is what is read, whatever the rows are."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tasks.data import shards
from tasks.encoding import Encoded
from tests import makers

ROWS = st.lists(st.lists(st.integers(0, 999), min_size=1, max_size=12), min_size=1, max_size=30)


def written(folder: Path, rows: list[list[int]], labels: list[int], at: shards.At = "rows") -> shards.Shard:
    with shards.Writer(folder, 1000, at) as writer:
        makers.add(writer, rows, labels)
    return shards.read(folder)


@examples(max_examples=60, deadline=None)
@given(rows=ROWS, cuts=st.lists(st.integers(0, 30), max_size=3))
def test_no_row_is_lost_or_doubled_however_the_batches_are_cut(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]], cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("shard") / "train"
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    with shards.Writer(folder, 1000) as writer:
        for first, last in pairwise(edges):
            makers.add(writer, rows[first:last], range(first, last))
    read = shards.read(folder)
    assert [read.row(place)[0].tolist() for place in range(len(read))] == rows
    assert read.labels.tolist() == list(range(len(rows)))
    assert read.lengths.tolist() == [len(row) for row in rows]
    assert writer.tokens == sum(map(len, rows)) == len(read.tokens)
    assert writer.rows == len(rows) == len(read)


@examples(max_examples=30, deadline=None)
@given(rows=ROWS)
def test_a_label_stays_with_its_token(tmp_path_factory: pytest.TempPathFactory, rows: list[list[int]]) -> None:
    labels = [token + 1000 for row in rows for token in row]
    read = written(tmp_path_factory.mktemp("shard") / "train", rows, labels, "tokens")
    for place, row in enumerate(rows):
        ids, marks = read.row(place)
        assert ids.tolist() == row
        assert marks.tolist() == [token + 1000 for token in row]


def test_rows_of_several_sequences_have_segments_and_a_label_each(tmp_path: Path) -> None:
    with shards.Writer(tmp_path / "train", 1000) as writer:
        sizes, types = np.array([2, 1, 3, 1]), np.array([0, 1, 0, 0, 0, 1, 0])
        writer.append(np.arange(2), np.array([1, 1]), np.array([1]), np.zeros(2, int), groups=np.array([2]))
        writer.append(np.arange(7), sizes, np.array([0, 2]), types, groups=np.array([1, 3]))
    read = shards.read(tmp_path / "train")
    assert (len(read), read.at, read.target) == (3, "rows", None)
    assert read.groups is not None
    assert read.types is not None
    assert read.groups.tolist() == [0, 2, 3, 6]
    assert read.types.tolist() == [0, 0, *types]
    assert read.lengths.tolist() == read.sizes.tolist() == [2, 2, 5]
    assert read.row(2)[0].tolist() == [2, 3, 4, 5, 6]
    assert read.row(2)[1].tolist() == [2]


def test_segments_are_written_only_when_there_is_more_than_one(tmp_path: Path) -> None:
    with shards.Writer(tmp_path / "train", 1000) as writer:
        writer.append(np.arange(3), np.array([3]), np.array([1]), np.zeros(3, int))
    assert shards.read(tmp_path / "train").types is None
    assert not (tmp_path / "train" / "types.bin").exists()


def test_a_target_has_as_many_rows_and_a_label_at_each_of_its_tokens(tmp_path: Path) -> None:
    with shards.Writer(tmp_path / "train", 1000, "none") as writer:
        for first in (5, 7):
            tokens, labels = np.array([0, first, 0], np.uint32), np.array([first, 1, 1])
            target = Encoded(tokens, np.array([2, 1]), np.zeros(2, bool), labels)
            writer.append(np.arange(3), np.array([1, 2]), target=target)
    read = shards.read(tmp_path / "train")
    assert read.target is not None
    assert (len(read), len(read.target), read.at, read.target.at) == (4, 4, "none", "tokens")
    assert read.target.tokens.tolist() == [0, 5, 0, 0, 7, 0]
    assert read.target.labels.tolist() == [5, 1, 1, 7, 1, 1]
    assert read.sizes.tolist() == [3, 3, 3, 3]


def test_labels_may_be_fractions_and_several_a_row(tmp_path: Path) -> None:
    labels = np.array([[0.5, 1], [0, -2.25]], np.float32)
    with shards.Writer(tmp_path / "train", 1000) as writer:
        writer.append(np.arange(2), np.array([1, 1]), labels)
    read = shards.read(tmp_path / "train")
    assert read.labels.dtype == np.float32
    assert read.labels.tolist() == labels.tolist()


def test_a_shard_is_mapped_and_not_read_into_memory(tmp_path: Path) -> None:
    read = written(tmp_path / "train", [[1, 2], [3]], [0, 1])
    for each in (read.tokens, read.offsets, read.labels):
        assert isinstance(each.base, np.memmap)
        assert not each.flags.writeable
    assert np.shares_memory(read.row(1)[0], read.tokens)


@pytest.mark.parametrize(("vocabulary", "kind"), [(65_536, np.uint16), (65_537, np.uint32)])
def test_tokens_take_two_bytes_as_long_as_every_id_fits(tmp_path: Path, vocabulary: int, kind: type) -> None:
    with shards.Writer(tmp_path / "train", vocabulary) as writer:
        makers.add(writer, [[0, vocabulary - 1]], [0])
    read = shards.read(tmp_path / "train")
    assert read.tokens.dtype == kind
    assert read.tokens.tolist() == [0, vocabulary - 1]


def test_an_id_that_does_not_fit_is_not_written_as_another(tmp_path: Path) -> None:
    with shards.Writer(tmp_path / "train", 100) as writer, pytest.raises(OverflowError, match="65536"):
        makers.add(writer, [[1, 65_536]], [0])


def test_a_row_costs_its_tokens_and_twelve_bytes(tmp_path: Path) -> None:
    rows = [[1, 2, 3]] * 100
    written(tmp_path / "train", rows, [0] * 100)
    size = sum(path.stat().st_size for path in (tmp_path / "train").glob("*.bin"))
    assert size == 100 * (3 * 2 + 12) + 8
