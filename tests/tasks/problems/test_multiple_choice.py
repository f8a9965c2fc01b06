"""Choices of any number stand behind their question, and the likeliest is answered."""

from typing import Any

import numpy as np
import pytest
import torch

from tasks import problems
from tasks.data import batches, shards
from tasks.data.shards import encode_split
from tests.tasks.problems.test_question_answering import Said
from tests.tasks.test_windows import encoder, letters

CHOICE = problems.named("multiple-choice")
ROWS: list[dict[str, Any]] = [
    {"question": "who", "choices": ["me", "you"], "answer": 1},
    {"question": "where", "choices": ["in", "on", "behind the gate"], "answer": 0},
]


def test_each_choice_stands_behind_the_question() -> None:
    ours = encoder(letters(), 12)
    found = CHOICE.encode(CHOICE.columns(ROWS, answered=True), ours, {})
    read = ["".join(ours.tokenizer.id_to_token(each) for each in found.tokens[at]) for at in found.spans()]
    plain = [each.replace("##", "") for each in read]
    assert plain[:4] == [
        "[CLS]who[SEP]me[SEP]",
        "[CLS]who[SEP]you[SEP]",
        "[CLS]where[SEP]in[SEP]",
        "[CLS]where[SEP]on[SEP]",
    ]
    assert found.rows is not None
    assert found.rows.tolist() == [0, 0, 1, 1, 1]
    assert found.truncated.tolist() == [False, True]
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0]


def test_the_chance_of_a_choice_is_among_those_of_its_row() -> None:
    scores = np.array([[0.0], [1.0], [3.0], [2.0], [1.0]], np.float32)
    found = CHOICE.answer(Said(encoder(letters(), 30), lambda _: scores), ROWS)
    assert [each.answer for each in found] == [1, 0]
    e = np.e
    assert [each.score for each in found] == pytest.approx([e / (1 + e), 1 / (1 + 1 / e + 1 / e**2)])


@pytest.mark.parametrize(
    ("choices", "answer", "fault"),
    [
        (["a", "b"], 1, None),
        (["a", "b"], 2, "answer 2 of 2 choices, which are counted from 0"),
        (["a", "b"], -1, "answer -1 of 2 choices, which are counted from 0"),
        (["a"], 0, "1 choices, wanted 2 or more"),
    ],
)
def test_an_answer_is_the_place_of_a_choice(choices: list[str], answer: int, fault: str | None) -> None:
    assert CHOICE.fault({"question": "who", "choices": choices, "answer": answer}) == fault


def test_validation_keeps_the_best_of_each_row() -> None:
    batch = batches.Batch(*[np.zeros((0, 0), np.int64)] * 4, groups=np.array([0, 0, 1, 1, 1]))
    kept = CHOICE.reduced(torch.tensor([[0.0], [1], [3], [4], [2]]), batch).numpy()
    assert kept.tolist() == [1, 1]
    shard = shards.Shard(np.zeros(0), np.zeros(6), np.array([1, 0]), groups=np.array([0, 2, 5]))
    assert CHOICE.watch(0.0, kept, shard, ()) == {"accuracy": 0.5}


def test_a_row_of_a_shard_is_all_its_choices(tmp_path: Any) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table(CHOICE.columns(ROWS, answered=True)), tmp_path / "rows.parquet")
    encode_split(tmp_path / "rows.parquet", tmp_path / "shard", encoder(letters(), 30), {}, CHOICE)
    shard = shards.read(tmp_path / "shard")
    assert len(shard) == 2
    batch = batches.padded(shard, np.array([1, 0]), 0)
    assert batch.groups is not None
    assert batch.groups.tolist() == [0, 0, 0, 1, 1]
    assert batch.labels.tolist() == [0, 1]


def test_what_costs_no_model_is_a_place_or_the_longest() -> None:
    train = [{"answer": each} for each in (2, 1, 1)]
    assert CHOICE.baselines(train, ROWS) == {"the most frequent place": [1, 1], "the longest choice": [1, 2]}
