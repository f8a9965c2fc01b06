"""Passages become tokens and tokens passages, over all windows of a text; and some questions have no answer."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tasks import problems, recipe, stages
from tasks.data import batches, shards
from tasks.data.ingest import ingest
from tasks.data.shards import encode_split
from tasks.data.validate import validate
from tasks.encoding import Encoded, Encoder
from tasks.metrics import answers as metrics
from tasks.problems.question_answering import LONGEST, Passage, _passage, _places
from tests.tasks.test_windows import encoder, letters

QA = problems.named("question-answering")
SOURCE = "In Yuán Cháo, Kublai founde\u0301 a ﬁne café\u0301; 元朝是中国的。"
OUTSIDE = (-1, -1)


class Said:
    """A model whose head says what a function makes of the rows."""

    labels = ()

    def __init__(self, encoder: Encoder, outputs: Callable[[Encoded], Any]) -> None:
        self.encoder, self.said = encoder, outputs

    def outputs(self, encoded: Encoded) -> list[Any]:
        return list(self.said(encoded))


def spans(*passages: str, context: str) -> list[dict[str, Any]]:
    return [{"text": each, "start": context.index(each)} for each in passages]


def pointing(encoded: Encoded) -> list[Any]:
    """What a head would say that knows the labels of all windows."""
    assert encoded.labels is not None
    found = []
    for at, ends in zip(encoded.spans(), encoded.labels, strict=True):
        logits = np.zeros((at.stop - at.start, 2), np.float32)
        logits[ends, [0, 1]] = 5
        found.append(logits)
    return found


@pytest.mark.parametrize("length", [31, 40, 90])
@pytest.mark.parametrize(
    "passage", ["Yuán Cháo", "Kublai", "founde\u0301", "ﬁne", "café\u0301", "元朝", "中国", "In", "中国的。"]
)
def test_a_passage_is_told_by_the_windows_that_have_it_whole(passage: str, length: int) -> None:
    row = {"question": "who?", "context": SOURCE, "answers": spans(passage, context=SOURCE)}
    ours = encoder(letters(), length)
    encoded = QA.encode(QA.columns([row], answered=True), ours, {})
    assert encoded.labels is not None
    assert (encoded.labels > 0).all(1).any()
    assert (len(encoded.lengths) == 1) == (length == 90)
    (found,) = QA.answer(Said(ours, lambda _: pointing(encoded)), [row])
    assert found.answer == passage
    assert found.score == pytest.approx((np.exp(5) / (np.exp(5) + encoded.lengths - 1)).max() ** 2, rel=0.2)


def test_a_passage_that_a_window_has_in_part_is_not_in_it() -> None:
    windows = [np.array([OUTSIDE, (0, 2), (3, 5)]), np.array([OUTSIDE, (3, 5), (6, 9)])]
    whole, first = {"text": "de fgh", "start": 3}, {"text": "ab", "start": 0}
    assert _places(windows, [whole]) == [(0, 0), (1, 2)]
    assert _places(windows, [first]) == [(1, 1), (0, 0)]
    assert _places(windows, [whole, first]) == [(1, 1), (1, 2)]  # the first that is there
    assert _places(windows, [{"text": "ab de fgh", "start": 0}]) == [(0, 0), (0, 0)]
    assert _places(windows, [{"text": " ", "start": 5}]) == [(0, 0), (0, 0)]
    assert _places(windows, [{"text": " de ", "start": 2}]) == [(2, 2), (1, 1)]
    assert _places(windows, []) == [(0, 0), (0, 0)]


def test_the_best_pair_by_hand() -> None:
    context, origin = "red roses bloom", np.array([OUTSIDE, (0, 3), (4, 9), (10, 15), OUTSIDE])
    logits = np.array([[1.0, 0.5], [0, 4], [3, 0], [0, 2], [9, 9]])
    shares = np.exp(logits) / np.exp(logits).sum(0)
    # 'roses' to 'red' (3 + 4) goes backwards, the last token is no context: 'roses bloom' has 3 + 2, 'red' 0 + 4
    assert _passage(logits, origin, context) == pytest.approx((3.5, "roses bloom", shares[2, 0] * shares[3, 1]))
    assert _passage(logits + [[3.6, 0]] * (np.arange(5) == 0)[:, None], origin, context)[:2] == pytest.approx(
        (-0.1, "")
    )


def test_an_answer_is_no_longer_than_so_many_tokens() -> None:
    tokens = LONGEST + 1
    origin = np.array([OUTSIDE, *((2 * n, 2 * n + 1) for n in range(tokens))])
    logits = np.zeros((tokens + 1, 2))
    logits[1, 0] = logits[tokens, 1] = 5
    logits[tokens - 1, 1] = 4
    assert _passage(logits, origin, "x " * tokens).text == "x " * (LONGEST - 1) + "x"


def test_nothing_is_answered_where_no_window_prefers_a_passage() -> None:
    ours, row = encoder(letters(), 16), {"question": "who?", "context": SOURCE}

    def prefers(window: int | None) -> Callable[[Encoded], list[Any]]:
        def outputs(encoded: Encoded) -> list[Any]:
            found = []
            for number, length in enumerate(encoded.lengths):
                logits = np.zeros((length, 2), np.float32)
                logits[0] = 2
                logits[-2] = 1 + 2 * (number == window)
                found.append(logits)
            return found

        return outputs

    assert QA.answer(Said(ours, prefers(None)), [row])[0].answer == ""
    assert [bool(each.answer) for each in QA.answer(Said(ours, prefers(1)), [row, row])] == [True, False]
    assert metrics.marks([QA.truth({"answers": []})], [""]).score("exact_match") == 1
    assert _passage(np.ones((3, 2)), np.array([OUTSIDE] * 3), "") == Passage(-np.inf, "", pytest.approx(1 / 9))


def test_while_it_learns_windows_are_judged_by_their_tokens() -> None:
    logits = torch.tensor([[0.0, 1], [2, 0], [1, 3], [5, 6], [4, 4], [9, 7], [0, 8]])
    batch = batches.Batch(*[np.zeros((0, 0), np.int64)] * 2, np.array([3, 4]), np.zeros((2, 2)))
    kept = QA.reduced(logits, batch).numpy()
    assert kept.tolist() == [[1, 2], [2, 3]]
    shard = shards.Shard(np.zeros(0), np.zeros(3), np.array([[1, 1], [2, 3]]))
    assert QA.watch(0.0, kept, shard, ()) == pytest.approx(
        {"span_f1": (2 * 1 / (2 + 1) + 1) / 2, "span_exact_match": 0.5}
    )
    nothing = shards.Shard(np.zeros(0), np.zeros(3), np.array([[0, 0], [0, 0]]))
    backwards = np.array([[0, 0], [3, 1]])
    assert QA.watch(0.0, backwards, nothing, ()) == {"span_f1": 0.5, "span_exact_match": 0.5}


def test_columns_as_squad_has_them_go_the_way_to_batches(home: Path, tmp_path: Path) -> None:
    """Each window has the tokens of its passage, or none; a passage that is not where it is said to be is a fault."""
    context = "Ünder the rose stood a gate . " + "It was old and green . " * 6 + "Behind it lived Zoë ."

    def row(question: str, *answers: str, shift: int = 0) -> dict[str, Any]:
        starts = [context.index(each) + shift for each in answers]
        return {
            "id": "x",
            "question": question,
            "context": context,
            "answers": {"text": answers, "answer_start": starts},
        }

    rows = [row("who lived there ?", "Zoë", "Behind it lived Zoë"), row("what stood there ?", "a gate"), row("why ?")]
    bad = [row("who ?", "Zoë", shift=1), row("where ?", "Ünder", shift=-1), {"question": "x", "context": "y"}]
    for split, lines in {"train": rows + bad, "validation": rows[:1], "test": rows[:1]}.items():
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(each) + "\n" for each in lines))
    data = recipe.Data(source=str(tmp_path))
    snapshot = ingest.fn(data, "question-answering", str(tmp_path))
    checked = validate.fn(
        snapshot, "question-answering", data, recipe.Rules(bad_rows=0.9, leaks="keep", duplicates="keep")
    )
    assert checked.rows["train"] == 3
    assert checked.quarantined == 3
    lines = stages.open_file(checked.files["quarantine.jsonl"]).read_text().splitlines()
    found = [(each["reason"], each["detail"]) for each in map(json.loads, lines)]
    start = context.index("Zoë") + 1
    assert found[0] == ("row-form", f"answer 'Zoë' is not at character {start}, where 'oë ' stands")
    assert found[1][0] == "row-form"
    assert found[2] == ("missing-column", "'answers' is not there")

    ours = encoder(letters(), 40)
    count = encode_split(stages.open_file(checked.files["train.parquet"]), tmp_path / "shard", ours, {}, QA)
    shard = shards.read(tmp_path / "shard")
    assert count.tokens == len(shard.tokens)
    assert len(shard) == len(shard.labels) > 3 * 3
    batch = batches.padded(shard, np.arange(len(shard)), 0)
    assert batch.types is not None
    told = []
    for ids, types, (first, last) in zip(batch.ids, batch.types, batch.labels, strict=True):
        assert (first, last) == (0, 0) or types[first : last + 1].all()
        told.append("".join(ours.tokenizer.id_to_token(each).removeprefix("##") for each in ids[first : last + 1]))
    assert set(told) == {"[CLS]", "zoe", "agate"}
    assert told.index("agate") > told.index("zoe")


def test_what_costs_no_model_is_the_likest_sentence_and_nothing() -> None:
    rows = [
        {"question": "Who planted the roses?", "context": "It was cold. Ann planted roses in May! She left."},
        {"question": "元朝是谁建立的？", "context": "北京是首都。元朝由忽必烈建立。他死了。"},
    ]
    found = QA.baselines([], rows)
    assert found["the sentence most like the question"] == ["Ann planted roses in May!", "元朝由忽必烈建立。"]
    assert found["no answer"] == ["", ""]
