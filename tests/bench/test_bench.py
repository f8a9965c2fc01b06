"""The bench is fair: contenders alternate, do equal work, and compute in the precision that their line names."""

from collections.abc import Iterator

import pytest
import torch

from tests.bench import data, ours, trainers
from tests.bench.dials import how
from tests.bench.paired import READY, Taken, run, stepwise
from tests.tasks.model import small

STEPS, BATCH = 3, 4


def noted(name: str, steps: Iterator[Taken], diary: list[str]) -> Iterator[Taken]:
    """The steps of a contender, with a word in the diary for each."""
    for step in steps:
        if step.rows:
            diary.append(name)
        yield step


def test_every_contender_takes_step_j_before_any_takes_the_next_and_all_take_the_same_rows() -> None:
    torch.set_num_threads(1)
    shard, dials, diary = small.shard(STEPS * BATCH), how(BATCH, "fp32"), list[str]()
    contenders = {
        padding: trainers.steps(small.bert(), shard, dials, padding, data.padder())
        for padding in ("dynamic", "fixed", "grouped")
    }
    contenders["ours"] = ours.steps(small.bert(), shard, dials)

    turns = run({name: noted(name, steps, diary) for name, steps in contenders.items()})

    rounds = [diary[first : first + 4] for first in range(0, len(diary), 4)]
    assert [sorted(each) for each in rounds] == [["dynamic", "fixed", "grouped", "ours"]] * STEPS
    assert rounds[0] != rounds[1]
    for taken in turns.values():
        assert [turn.rows for turn in taken] == [BATCH] * STEPS
        assert sum(turn.tokens for turn in taken) == len(shard.tokens)
        assert all(0 < turn.cpu for turn in taken)
    assert [turn.tokens for turn in turns["fixed"]] == [turn.tokens for turn in turns["dynamic"]]


def test_a_trainer_in_bf16_and_one_in_fp32_side_by_side_keep_to_their_precision() -> None:
    shard, seen = small.shard(STEPS * BATCH), dict[str, set[torch.dtype]]()

    def contender(precision: str) -> Iterator[Taken]:
        model = small.bert()
        own = seen.setdefault(precision, set())
        model.bert.encoder.layer[0].output.dense.register_forward_hook(lambda *given: own.add(given[2].dtype))
        return trainers.steps(model, shard, how(BATCH, precision), "dynamic", data.padder())

    run({precision: contender(precision) for precision in ("fp32", "bf16")})

    assert seen == {"fp32": {torch.float32}, "bf16": {torch.bfloat16}}


def test_what_a_contender_raises_is_raised_where_its_step_was_awaited() -> None:
    def work(hand_back: object) -> None:
        raise ValueError("no such layer")

    with pytest.raises(ValueError, match="no such layer"):
        next(stepwise(work))


def test_unequal_work_is_no_comparison() -> None:
    with pytest.raises(AssertionError, match="unequal work"):
        run({"one": iter([READY, Taken(4, 9)]), "other": iter([READY, Taken(4, 9), Taken(4, 9)])})
