"""What is shown is put in order by how likely it is taken."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from tasks import problems, stages
from tests import makers

RELEVANCE = problems.named("relevance")


@pytest.mark.parametrize(("relevant", "fault"), [(0, None), (0.5, None), (1, None), (3, "relevant 3, wanted 0..1")])
def test_relevance_is_a_share(relevant: float, fault: str | None) -> None:
    assert RELEVANCE.fault({"text": "a", "pair": "b", "relevant": relevant}) == fault


def test_what_was_taken_often_is_popular_and_what_was_never_shown_is_as_usual() -> None:
    train = [{"text": "a", "pair": pair, "relevant": taken} for pair, taken in [("x", 1), ("x", 1), ("y", 0)]]
    rows = [{"text": "b y", "pair": pair} for pair in ("x", "y", "z")]
    found = RELEVANCE.baselines(train, rows)
    assert found["how popular it is"] == pytest.approx([(2 + 2 / 3) / 3, (0 + 2 / 3) / 2, 2 / 3])
    assert found["shared words"] == [0, 0.5, 0]


def test_half_and_more_is_relevant_where_it_is_asked_for_yes_or_no() -> None:
    truth = [{"text": "a", "relevant": share} for share in (0.2, 0.9, 0.4, 0.5)]
    marks = RELEVANCE.marks(truth, [0.1, 0.8, 0.6, 0.5], ())
    assert float(marks.score("auc")) == roc_auc_score([0, 1, 0, 1], [0.1, 0.8, 0.6, 0.5])


def events(folder: Path, count: int) -> list[dict[str, Any]]:
    """What users of MovieLens rated, in the order of time: the films of a user's day are one list."""
    table = pq.read_table(folder / "movielens_pairs" / "train.parquet").to_pylist()[:count]
    days: dict[tuple[int, int], str] = {}
    return [
        {
            "text": days.setdefault((row["user"], row["timestamp"] // 86_400), row["text_a"]) or "(nothing yet)",
            "pair": row["text_b"],
            "relevant": float(row["label"] == "like"),
            "time": str(np.datetime64(row["timestamp"], "s")),
        }
        for row in table
    ]


@pytest.mark.matrix
def test_what_people_like_is_learned_from_what_they_liked_before(datasets: Path, tmp_path: Path) -> None:
    beside = tmp_path / "log"
    beside.mkdir()
    (beside / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in events(datasets, 25_000)))
    recipe = makers.recipe(
        "relevance",
        data={"source": "rows.jsonl", "time": "time", "split": {"by": "time"}},
        tokens={"length": 48, "tokenizer": {"train": "wordpiece", "vocabulary": 2000}},
        train={"epochs": 2, "batch": 32, "learning_rate": 2e-3, "precision": "fp32"},
    )
    with makers.at_home(tmp_path / "home"):
        made = makers.walked(tmp_path / "home", recipe, beside)
        times = [
            pq.read_table(stages.open_file(made.checked.files[f"{split}.parquet"]))["time"].to_pylist()
            for split in ("train", "test")
        ]
        assert max(times[0]) < min(times[1])
        facts = json.loads(stages.open_file(made.report.files["report.json"]).read_text())
        found = pq.read_table(stages.open_file(made.report.files["predictions.parquet"])).to_pylist()
    truth, predicted = [row["truth"]["relevant"] for row in found], [row["predicted"] for row in found]
    assert facts["scores"]["auc"] == pytest.approx(roc_auc_score(truth, predicted))
    lists: dict[str, list[int]] = {}
    for number, row in enumerate(found):
        lists.setdefault(row["truth"]["text"], []).append(number)
    theirs = [
        ndcg_score([[truth[each] for each in rows]], [[predicted[each] for each in rows]], k=10)
        if len(rows) > 1
        else truth[rows[0]]
        for rows in lists.values()
    ]
    assert facts["scores"]["ndcg_10"] == pytest.approx(np.mean(theirs))
    assert facts["scores"]["auc"] > 0.55
    assert facts["gains"]["shared words"]["low"] > 0
