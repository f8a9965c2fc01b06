"""What comes after a decision: rollout by its flow, what got lost told again, what nobody answered refused."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Crashed, Running

from flows import events, reconcile, rollout
from flows.__main__ import main
from flows.deployments import RESUMED, TAG
from infra.ledger import Decision, Ledger, Rollout
from infra.settings import settings
from tasks.errors import Unreachable
from tasks.release import mending
from tasks.release import rollout as release


@pytest.fixture(autouse=True)
def quick(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "Ledger", lambda url: Ledger(url, expiry=0.5, renewal=0.1))


def live(name: str, version: int = 1) -> Decision:
    ledger = Ledger(settings().ledger_url)
    with ledger.lease(f"model:{name}") as lease:
        return ledger.decide(
            lease, model=name, version=version, kind="promoted", key=str(version), body={"reasons": []}
        )


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """What is told to Prefect: (event, model, key)."""
    heard: list[tuple[str, str, str]] = []
    monkeypatch.setattr(events, "emit", lambda event, model, payload, key: heard.append((event, model, key)))
    return heard


def test_a_flow_says_whether_it_marked_or_came_too_late(
    prefect_server: None, told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    mark = Rollout(id=1, at="2026", model="tiny", version=1, decision=7, epoch=1, body={"golden": 8})
    monkeypatch.setattr(release, "rollout", lambda name, version, decision: mark)
    state = rollout.rollout("tiny", 1, 7, return_state=True)
    assert (state.name, told) == ("Deployable", [("vernal.deployable", "tiny", "7")])
    monkeypatch.setattr(release, "rollout", lambda name, version, decision: None)
    state = rollout.rollout("tiny", 1, 7, return_state=True)
    assert (state.name, len(told)) == ("Superseded", 1)


def test_a_live_decision_that_nobody_acted_upon_is_told_again_once_an_hour(
    told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    decision, known = live("tiny"), set[int]()
    monkeypatch.setattr(reconcile.orchestrator, "there", lambda: "http://127.0.0.1/api")
    monkeypatch.setattr(events, "heard", lambda decision, hours: hours in known)
    assert list(reconcile.unheard("tiny")) == [], "it has five minutes to be heard of"
    for minutes, hours in ((10, 0), (30, 0), (70, 1), (80, 1)):
        monkeypatch.setattr(reconcile, "datetime", later(minutes))
        assert len(list(reconcile.unheard("tiny"))) == (hours not in known)
        known.add(hours)
    assert [key for _, _, key in told] == [str(decision.id), f"{decision.id} after 1 h"]


def later(minutes: int) -> type[datetime]:
    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(minutes=minutes)

    return Later


def test_one_service_that_fails_keeps_nobody_from_mending_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> None:
        raise Unreachable("E-MLFLOW-UNAVAILABLE", "gone")

    done = mending.Mended("half-made object", "blobs/~1", "removed")
    monkeypatch.setattr(mending, "runs", away)
    monkeypatch.setattr(mending, "leftovers", lambda: iter([done]))
    found = list[mending.Mended]()
    with pytest.raises(Unreachable):
        found.extend(reconcile.mend())
    assert found == [done]


def test_the_command_mends_and_says_what(capsys: pytest.CaptureFixture[str], told: list[Any]) -> None:
    ledger = Ledger(settings().ledger_url)
    body = {"until": "2020-01-01T00:00:00+00:00", "verdict": {"promoted": True, "reasons": ["proved better"]}}
    with ledger.lease("model:tiny") as lease:
        ledger.ask(lease, model="tiny", version=1, key="one", body=body)
    assert main(["reconcile", "--json"]) == 0
    assert [each["what"] for each in json.loads(capsys.readouterr().out)] == ["approval"]
    assert [(event, model) for event, model, _ in told] == [("vernal.refused", "tiny")]
    assert main(["reconcile"]) == 0
    assert capsys.readouterr().out == "  nothing to mend\n"


def test_the_flow_leaves_a_table_of_what_it_did(prefect_server: None) -> None:
    from prefect.client.orchestration import get_client

    assert reconcile.reconcile(return_state=True).name == "Nothing to do"
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/artifacts/latest/filter", json={}).json()
    assert "reconcile" in {each["key"] for each in found}


def test_a_crashed_run_of_which_no_automation_heard_goes_on(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile, "STRANDED", timedelta(0))
    with get_client(sync_client=True) as client:
        run = client.create_flow_run(reconcile.reconcile, name="silent", tags=[RESUMED])
        stranger = client.create_flow_run(reconcile.reconcile, name="of another project")
        for each in (run, stranger):
            client.set_flow_run_state(each.id, Crashed(), force=True)
        assert [(each.which, each.done) for each in reconcile.stranded()] == [("silent", "crashed, taken up again")]
        assert client.read_flow_run(run.id).state_name == "AwaitingRetry"
        assert client.read_flow_run(stranger.id).state_name == "Crashed"
        assert list(reconcile.stranded()) == []


def test_tasks_that_died_with_their_run_are_shown_as_dead_and_those_of_living_runs_left_alone(
    prefect_server: None,
) -> None:
    with get_client(sync_client=True) as client:
        dead, living = (
            client.create_flow_run(reconcile.reconcile, name=name, tags=[TAG]) for name in ("dead", "living")
        )
        for run in (dead, living):
            client.set_flow_run_state(run.id, Running(), force=True)
            asked = {
                "flow_run_id": str(run.id),
                "task_key": "finetune",
                "dynamic_key": "0",
                "name": f"finetune of {run.name}",
            }
            client.request("POST", "/task_runs/", json={**asked, "state": {"type": "RUNNING"}})
        client.set_flow_run_state(dead.id, Crashed(), force=True)
        assert [each.which for each in reconcile.unburied()] == ["finetune of dead"]
        assert list(reconcile.unburied()) == []
        client.set_flow_run_state(living.id, Crashed(), force=True)
