"""One run for each reason: what the sensor decides, over a folder of rows and the ledger."""

import json
from pathlib import Path
from typing import Any

import pytest

from flows import sensor
from flows.sensor import Found, Why
from infra.ledger import Ledger
from infra.settings import settings
from tasks import recipe
from tasks.data.ingest import ingest
from tasks.recipe import Recipe

RECIPE = """
name: tiny
task: text-classification
data: {source: rows, label: intent}
model: {base: {architecture: encoder}}
tokens: {tokenizer: {train: bpe}}
triggers: {new_rows: %d, drift: {psi: 0.25}, decay: {metric: macro_f1, below: 0.85}}
"""


class Watched:
    """A recipe beside its rows, looked at as the flow does it, without a run being started."""

    def __init__(self, folder: Path, new_rows: int) -> None:
        self.folder = folder
        (folder / "rows").mkdir()
        (folder / "recipe.yaml").write_text(RECIPE % new_rows)
        self.recipe: Recipe = recipe.load(folder / "recipe.yaml")
        self.add("monday", 100)

    def add(self, name: str, rows: int) -> None:
        found = [{"text": f"row {number:05} of {name}", "intent": "ab"[number % 2]} for number in range(rows)]
        (self.folder / "rows" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))

    def learn(self) -> None:
        """As the run does it that was started."""
        ingest.fn(self.recipe.data, self.recipe.task, str(self.folder))

    def look(self, why: Why = "data", **evidence: Any) -> Found:
        ledger = Ledger(settings().ledger_url)
        found = sensor.look(self.recipe, self.folder, why, evidence, ledger.causes("tiny"))
        if found.body:
            ledger.note("tiny", found.key, {**found.body, "run": None})
        return found


def test_new_rows_are_a_reason_once(tmp_path: Path, home: Path) -> None:
    watched = Watched(tmp_path, new_rows=1)
    assert watched.look().start
    assert [watched.look().start for _ in range(50)] == [False] * 50
    watched.add("tuesday", 1)
    assert watched.look("poll").start
    assert not watched.look().start
    assert len(Ledger(settings().ledger_url).causes("tiny")) == 2


def test_the_same_rows_elsewhere_or_back_again_are_no_reason(tmp_path: Path, home: Path) -> None:
    watched = Watched(tmp_path, new_rows=1)
    watched.look()
    watched.add("tuesday", 5)
    watched.look()
    (tmp_path / "rows" / "tuesday.jsonl").unlink()
    assert watched.look().reason.startswith("seen on")


def test_few_new_rows_wait_until_there_are_enough(tmp_path: Path, home: Path) -> None:
    watched = Watched(tmp_path, new_rows=30)
    assert watched.look().start
    watched.learn()
    watched.add("tuesday", 20)
    few = watched.look()
    assert (few.start, few.reason) == (False, "about 20 new rows by size, wanted 30 or more")
    watched.add("wednesday", 20)
    assert watched.look().start


def test_rows_that_were_written_anew_all_count(tmp_path: Path, home: Path) -> None:
    watched = Watched(tmp_path, new_rows=30)
    watched.look()
    watched.learn()
    watched.add("monday", 90)
    assert watched.look().reason == "about 100 new rows by size, wanted 30 or more"


def test_another_recipe_is_a_reason(tmp_path: Path, home: Path) -> None:
    watched = Watched(tmp_path, new_rows=30)
    watched.look()
    watched.recipe = watched.recipe.changed({"train.epochs": 9})
    assert watched.look("poll").start


@pytest.mark.parametrize(
    ("why", "evidence", "start"),
    [
        ("drift", {"psi": 0.3}, True),
        ("drift", {"psi": 0.2}, False),
        ("drift", {"psi": "0.3"}, False),
        ("drift", {}, False),
        ("decay", {"metric": "macro_f1", "value": 0.8}, True),
        ("decay", {"metric": "macro_f1", "value": 0.9}, False),
        ("decay", {"metric": "accuracy", "value": 0.1}, False),
    ],
)
def test_evidence_counts_from_the_recipes_threshold(
    tmp_path: Path, home: Path, why: Why, evidence: dict[str, Any], start: bool
) -> None:
    watched = Watched(tmp_path, new_rows=30)
    watched.look()
    watched.learn()
    watched.add("tuesday", 1)  # too few to be a reason by themselves
    assert watched.look(why, **evidence).start is start


def test_weak_evidence_hides_no_rows_that_are_enough_by_themselves(tmp_path: Path, home: Path) -> None:
    watched = Watched(tmp_path, new_rows=30)
    watched.look()
    watched.learn()
    watched.add("tuesday", 60)
    assert watched.look("drift", psi=0.1).start


def test_a_run_for_drift_silences_drift_alone_and_for_the_cooldown_alone(tmp_path: Path, home: Path) -> None:
    watched = Watched(tmp_path, new_rows=30)
    watched.look()
    watched.learn()
    ledger = Ledger(settings().ledger_url)
    started = ledger.causes("tiny")[-1].body | {"why": "drift", "run": "one"}
    ledger.note("tiny", "a run for drift", started)
    watched.add("tuesday", 1)  # too few to be a reason by themselves
    assert not watched.look("drift", psi=0.9).start
    assert watched.look("decay", metric="macro_f1", value=0.1).start
    watched.add("wednesday", 1)
    triggers = watched.recipe.triggers
    assert triggers
    watched.recipe = watched.recipe.model_copy(update={"triggers": triggers.model_copy(update={"cooldown": 0})})
    assert watched.look("drift", psi=0.9).start


def test_evidence_over_rows_that_were_trained_on_changes_nothing(tmp_path: Path, home: Path) -> None:
    watched = Watched(tmp_path, new_rows=1)
    watched.look()
    assert not watched.look("drift", psi=9.0).start
