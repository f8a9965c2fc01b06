"""Files of rows that are read a batch at a time: what was read is let go."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks import problems
from tasks.data import examples, survey

ROWS, GROUPS = 8192, 10
READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "as they were ingested": lambda path: (batch for _, batch in survey.batches(path, ["text"])),
    "as they were checked": lambda path: (
        batch["text"] for batch in examples.columns(path, problems.named("causal-language-modelling"))
    ),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten groups of rows, 1 MB each."""
    path, draw = tmp_path_factory.mktemp("rows") / "rows.parquet", np.random.default_rng(0)
    with pq.ParquetWriter(path, pa.schema({"text": pa.string()}), use_dictionary=False) as writer:
        for _ in range(GROUPS):
            letters = draw.bytes(60 * ROWS).hex()
            writer.write_table(pa.table({"text": [letters[i : i + 120] for i in range(0, len(letters), 120)]}))
    return path


@pytest.mark.parametrize("reader", READERS)
def test_what_was_read_of_a_file_is_not_kept_until_its_end(reader: str, file: Path) -> None:
    before, most, rows = pa.total_allocated_bytes(), 0, 0
    for batch in READERS[reader](file):
        rows += len(batch)
        most = max(most, pa.total_allocated_bytes() - before)
    assert rows == ROWS * GROUPS
    assert most < 6e6, "a batch takes 4 MB, the file has 10"
