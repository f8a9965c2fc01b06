"""Schedules and triggers on a real Prefect server with a real worker: what is in its calendar, and what it runs."""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.local.prefect import LocalPrefect

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
SAMPLE = (ROOT / "flows/recipes/customer_messages.jsonl").read_text().splitlines()
PATIENCE = 600  # seconds for a run on a busy machine

RECIPE = """
name: tiny
task: text-classification
data: {source: rows.jsonl, label: intent}
tokens: {length: 48, tokenizer: {train: bpe, vocabulary: 500}}
model: {base: {architecture: encoder, num_layers: 1, d_model: 32, num_heads: 2}}
train: {epochs: 1, precision: fp32}
rules: {min_per_class: 1}
"""
CLOCKS = """
schedule:
  - {cron: "0 3 * * *", timezone: Europe/Berlin, slug: nightly}
  - {rrule: "FREQ=MONTHLY;BYMONTHDAY=1;BYHOUR=4;BYMINUTE=0;BYSECOND=0", slug: monthly, set: {train.epochs: 2}}
"""
TRIGGERS = "triggers: {debounce: 10, poll: 86400}\n"


@dataclass
class Served:
    """A server, with the command that talks to it; a home of its own."""

    url: str
    folder: Path
    environment: dict[str, str]

    def vernal(self, *arguments: str) -> tuple[int, Any]:
        done = subprocess.run(
            [sys.executable, "-m", "flows", *arguments, "--json"],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return done.returncode, json.loads(done.stdout) if done.returncode in (0, 3) else done.stderr

    def schedule(self, *arguments: str) -> Any:
        code, found = self.vernal("schedule", *arguments)
        assert code == 0, found
        return found

    def call(self, path: str, body: Any) -> Any:
        answer = httpx.post(f"{self.url}{path}", json=body, timeout=60, follow_redirects=True)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def recipe(self, *parts: str) -> str:
        path = self.folder / "tiny.yaml"
        path.write_text(RECIPE + "".join(parts))
        return str(path)

    def deployment(self, name: str) -> Any:
        return httpx.get(f"{self.url}/deployments/name/{name}", timeout=60).json()

    def runs(self, flow: str) -> list[Any]:
        """Runs that somebody asked for; those that a clock put into the calendar do not count."""
        found = self.call("/flow_runs/filter", {"flows": {"name": {"any_": [flow]}}, "sort": "EXPECTED_START_TIME_ASC"})
        return [run for run in found if not run["auto_scheduled"]]

    def arrived(self, times: int) -> None:
        """The event, as an outside system tells it."""
        for _ in range(times):
            event = {
                "id": str(uuid.uuid4()),
                "occurred": datetime.now(UTC).isoformat(),
                "event": "vernal.data.arrived",
                "resource": {"prefect.resource.id": "vernal.model.tiny", "prefect.resource.name": "tiny"},
                "related": [],
                "payload": {},
            }
            self.call("/events", [event])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("schedule")
    (folder / "rows.jsonl").write_text("\n".join(SAMPLE[:200]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(folder / "prefect"))
        patch.setattr("infra.local.prefect.PATIENCE", PATIENCE)
        with LocalPrefect() as server:
            environment = {
                **{name: value for name, value in os.environ.items() if not name.startswith("VERNAL_")},
                "PREFECT_API_URL": server.wait(),
                "VERNAL_HOME": str(folder / "home"),
                "OMP_NUM_THREADS": "1",
            }
            yield Served(server.url, folder, environment)


@pytest.fixture
def worker(served: Served) -> Iterator[None]:
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "local", "--type", "process"]
    with (served.folder / "worker.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=served.environment, stdout=log, stderr=log)
        yield
        process.terminate()
        process.wait(60)


def until(found: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not found():
        assert time.monotonic() < end, f"not in {PATIENCE} s: {what}"
        time.sleep(2)


def did(found: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["did"] for each in found["changes"]}


def test_scheduling_again_changes_nothing_and_removing_leaves_nothing(served: Served) -> None:
    first = served.schedule(served.recipe(CLOCKS, TRIGGERS))
    assert set(did(first).values()) == {"created"}
    assert len(first["next"]["retrain/tiny"]) == 3
    again = served.schedule(served.recipe(CLOCKS, TRIGGERS))
    assert did(again) == dict.fromkeys(did(again), "unchanged")
    assert again["next"] == first["next"]
    slower = served.schedule(served.recipe(CLOCKS, TRIGGERS.replace("10", "20")))
    assert {name for name, what in did(slower).items() if what == "changed"} == {
        "sensor/tiny",
        "vernal tiny: data arrived",
    }
    assert set(did(served.schedule(served.recipe(CLOCKS, TRIGGERS.replace("10", "20")))).values()) == {"unchanged"}
    fewer = served.schedule(served.recipe())
    assert did(fewer)["retrain/tiny"] == "changed"
    assert did(fewer)["sensor/tiny"] == did(fewer)["vernal tiny: data arrived"] == "removed"
    assert served.deployment("retrain/tiny")["schedules"] == []
    ours = {"flows": {"name": {"any_": ["retrain", "sensor"]}}}
    assert served.call("/flow_runs/filter", ours) == [], "those that the clock put into the calendar are gone too"
    gone = served.schedule("--remove", "tiny")
    assert set(did(gone).values()) == {"removed"}
    for what in ("deployments", "automations", "flow_runs"):
        assert served.call(f"/{what}/filter", {}) == []


def test_three_in_the_morning_is_three_in_the_morning_when_the_clocks_change(served: Served) -> None:
    served.schedule(served.recipe(CLOCKS))
    found = served.deployment("retrain/tiny")
    served.call(
        f"/deployments/{found['id']}/schedule",
        {"start_time": "2027-03-26T12:00:00Z", "end_time": "2027-03-30T12:00:00Z", "min_runs": 4},
    )
    window = {"expected_start_time": {"after_": "2027-03-26T12:00:00Z", "before_": "2027-03-30T12:00:00Z"}}
    asked = {"flow_runs": window, "sort": "EXPECTED_START_TIME_ASC"}
    times = [run["expected_start_time"][:16] for run in served.call("/flow_runs/filter", asked)]
    assert times == ["2027-03-27T02:00", "2027-03-28T01:00", "2027-03-29T01:00", "2027-03-30T01:00"]
    served.schedule("--remove", "tiny")


def test_a_bad_value_is_refused_before_there_is_a_run(served: Served) -> None:
    served.schedule(served.recipe())
    found = served.deployment("retrain/tiny")
    given = found["parameters"] | {"recipe": found["parameters"]["recipe"] | {"train": {"epochs": 0}}}
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        served.call(f"/deployments/{found['id']}/create_flow_run", {"parameters": given})
    assert served.runs("retrain") == []
    served.schedule("--remove", "tiny")


def test_fifty_events_are_one_run_the_same_again_none_and_another_row_one(served: Served, worker: None) -> None:
    def looked(times: int) -> bool:
        return len(served.runs("sensor")) >= times and all(
            run["state_type"] == "COMPLETED" for run in served.runs("sensor")
        )

    served.schedule(served.recipe("triggers: {debounce: 10}\n"))
    served.arrived(50)
    until(lambda: looked(1), "the sensor looked")
    assert len(served.runs("retrain")) == 1
    until(lambda: served.runs("retrain")[0]["state_type"] in ("COMPLETED", "FAILED", "CRASHED"), "the run ended")
    assert served.runs("retrain")[0]["state_name"] == "Promoted"
    looks = len(served.runs("sensor"))
    served.arrived(1)
    until(lambda: looked(looks + 1), "the sensor looked again")
    assert served.runs("sensor")[-1]["state_name"] == "Nothing new"
    assert len(served.runs("retrain")) == 1
    with (served.folder / "rows.jsonl").open("a") as rows:
        rows.write(SAMPLE[200] + "\n")
    code, _ = served.vernal("emit", "vernal.data.arrived", "tiny")
    assert code == 0
    until(lambda: looked(looks + 2), "the sensor saw the row")
    assert len(served.runs("retrain")) == 2
    until(lambda: served.runs("retrain")[1]["state_type"] == "COMPLETED", "the second run ended")
    served.schedule("--remove", "tiny")
