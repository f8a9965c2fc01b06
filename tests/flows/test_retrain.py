"""The whole way through Prefect, in one process: reuse, the gate, and the way back."""

import json
import random
import re
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.sorting import FlowRunSort

from flows.__main__ import main
from flows.retrain import retrain
from tasks import stages
from tasks.recipe import load

ROOT = Path(__file__).parents[2]
SAMPLE = (ROOT / "flows/recipes/customer_messages.jsonl").read_text().splitlines()

HOSTILE = "<script>alert(1)</script>"  # a label is a text of somebody else's

RECIPE = """
name: tiny
task: text-classification
data: {source: {train: train.jsonl, validation: validation.jsonl, test: test.jsonl}, label: intent}
tokens: {length: 48, tokenizer: {train: bpe, vocabulary: 1500}}
model: {base: {architecture: encoder, num_layers: 1, d_model: 64, num_heads: 2}}
train: {epochs: 8, batch: 16, learning_rate: 3e-3, precision: fp32}
"""


@pytest.fixture
def recipe(tmp_path: Path, prefect_server: None, mlflow_at_home: None) -> Path:
    """A recipe over three intents of the sample; small enough to train in seconds, hard enough to get wrong."""
    chosen = [
        line.replace("product_advice", HOSTILE)
        for line in SAMPLE
        if json.loads(line)["intent"] in ("order_status", "late_delivery", "product_advice")
    ]
    for name, rows in {"train": chosen[:240], "validation": chosen[240:300], "test": chosen[300:]}.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(rows) + "\n")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "recipe.yaml"


class Cli:
    """The command with what it printed as JSON, each time as if in a process of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
        stages.ATTEMPT = uuid.uuid4().hex
        code = main([*map(str, arguments), "--json"])
        printed = self.capsys.readouterr().out
        return code, json.loads(printed) if printed else {}


@pytest.fixture
def vernal(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def reused(ran: dict[str, Any]) -> list[str]:
    return [verb for verb, stage in ran["stages"].items() if stage["reused"]]


def last_state() -> str | None:
    """How Prefect's pages name the end of the newest run."""
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(limit=1, sort=FlowRunSort.START_TIME_DESC)[0].state_name


def test_the_first_version_becomes_champion_and_the_same_command_again_does_nothing(vernal: Cli, recipe: Path) -> None:
    code, first = vernal("run", recipe)
    assert (code, first["version"], first["champion"], reused(first)) == (0, 1, 1, [])
    page = Path(first["report"]).read_text()
    assert page.startswith("<!doctype html>")
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert not re.search(r"<script|<link|src=\"(?!data:)|href=\"(?!http)", page), "nothing but itself"
    assert 'tiny version 1 <span class="pill promoted">promoted</span>' in page
    assert "vernal explain tiny@1" in page
    assert "vernal rollback" not in page, "there is nothing to go back to"

    began = time.monotonic()
    code, again = vernal("run", recipe)
    assert time.monotonic() - began < 4
    assert (code, again["version"], again["verdict"]) == (0, 1, first["verdict"])
    assert len(reused(again)) == 9


def test_another_learning_rate_reuses_the_data_and_another_row_tells_which_digest_changed(
    vernal: Cli, recipe: Path
) -> None:
    vernal("run", recipe, "--set", "train.epochs=1")
    _, changed = vernal("run", recipe, "--set", "train.epochs=1", "--set", "train.learning_rate=1e-3")
    assert reused(changed) == ["ingest", "validate", "load", "tokenise"]
    assert changed["version"] == 2
    page = Path(changed["report"]).read_text()
    assert "<td>train.learning_rate</td><td>0.003</td><td>0.001</td>" in page
    assert page.count("<td>reused</td>") == 4
    verdict = changed["verdict"]
    assert f"{verdict['gain']:+.4f} [{verdict['low']:+.4f}, {verdict['high']:+.4f}]" in page

    with (recipe.parent / "train.jsonl").open("a") as file:
        file.write(json.dumps({"text": "where is my parcel with the garden fork", "intent": "order_status"}) + "\n")
    _, grown = vernal("run", recipe, "--set", "train.epochs=1")
    assert reused(grown) == ["load"]
    _, page = vernal("explain", f"tiny@{grown['version']}")
    assert "ingest" in page["changed"]["digests"]
    assert page["changed"]["inputs"] == ["train/train.jsonl"]
    _, earlier = vernal("explain", "tiny@2")
    assert list(earlier["changed"]["dials"]) == ["train.learning_rate"]
    assert "ingest" not in earlier["changed"]["digests"]


def test_a_worse_challenger_is_refused_a_better_one_goes_live_and_can_be_taken_back(vernal: Cli, recipe: Path) -> None:
    _, weak = vernal("run", recipe, "--set", "train.epochs=1", "--set", "train.learning_rate=2e-4")
    _, good = vernal("run", recipe)
    assert good["verdict"]["promoted"], good["verdict"]
    assert good["verdict"]["low"] > 0
    assert good["champion"] == 2

    train = recipe.parent / "train.jsonl"
    honest = train.read_text()
    rows = [json.loads(line) for line in honest.splitlines()]
    intents = [row["intent"] for row in rows]
    random.Random(0).shuffle(intents)
    train.write_text(
        "".join(json.dumps({**row, "intent": intent}) + "\n" for row, intent in zip(rows, intents, strict=True))
    )
    code, spoiled = vernal("run", recipe)
    assert (code, spoiled["version"], spoiled["champion"]) == (3, 3, 2)
    assert "not proved better" in spoiled["verdict"]["reasons"][0]
    assert last_state() == "Refused by the gate"
    retrain(load(recipe), str(recipe.parent))
    assert last_state() == "Reused"
    code, _ = vernal("run", recipe)
    assert code == 3, "the same refusal again, not a new exam"
    _, page = vernal("explain", "tiny@3")
    assert page["decisions"][0]["kind"] == "refused"

    began = time.monotonic()
    assert vernal("rollback", "tiny") == (0, {"name": "tiny", "from": 2, "champion": weak["version"]})
    assert time.monotonic() - began < 10
    assert vernal("rollback", "tiny")[1]["champion"] == 2
    assert vernal("promote", "tiny", "3")[0] == 3
    assert vernal("explain", "tiny")[1]["version"] == 2


def test_check_says_what_would_run_and_in_how_much_memory(vernal: Cli, recipe: Path) -> None:
    _, fresh = vernal("check", recipe)
    assert not any(stage["reused"] for stage in fresh["stages"].values())
    assert fresh["memory"]["bytes"] == sum(fresh["memory"]["parts"].values())
    assert "rows of the source" in fresh["memory"]["rows"]


def test_check_of_a_base_that_is_not_here_tells_no_memory(vernal: Cli, recipe: Path) -> None:
    pinned = f"model.base=hf://somebody/something@{'0' * 40}"
    code, found = vernal("check", recipe, "--set", pinned, "--set", "tokens.tokenizer=base")
    assert (code, found["memory"]) == (0, None)


def test_a_rollback_without_a_former_champion_is_one_coded_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rollback", "nobody"]) == 2
    assert capsys.readouterr().err.startswith("E-NO-PREVIOUS nobody")
