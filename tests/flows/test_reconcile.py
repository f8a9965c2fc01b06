"""What comes after a decision: rollout by its flow, what got lost told again, what nobody answered refused."""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed, Failed, Pending, Running

from flows import attempts, events, reconcile, rollout
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


def test_a_refusal_of_the_last_day_that_was_lost_is_told_again_and_an_older_one_is_not(
    told: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(settings().ledger_url)
    with ledger.lease("model:tiny") as lease:
        ledger.decide(lease, model="tiny", version=2, kind="refused", key="2", body={"reasons": ["no better"]})
    monkeypatch.setattr(reconcile.orchestrator, "there", lambda: "http://127.0.0.1/api")
    monkeypatch.setattr(events, "heard", lambda decision, hours: False)
    monkeypatch.setattr(reconcile, "datetime", later(10))
    assert [each.done for each in reconcile.unheard("tiny")] == ["vernal.refused told again"]
    monkeypatch.setattr(reconcile, "datetime", later(25 * 60))
    assert list(reconcile.unheard("tiny")) == []


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


def test_the_command_mends_and_says_what(
    capsys: pytest.CaptureFixture[str], told: list[Any], mlflow_at_home: None
) -> None:
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


@pytest.fixture
def deployed(prefect_server: None) -> Iterator[Callable[..., Any]]:
    """Makes runs of a deployment that are in a state."""
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name(f"flow-{uuid4()}")
        deployment = client.create_deployment(flow, "tiny")

        def run(name: str, state: State[Any], tags: Sequence[str] = (TAG, RESUMED), by_hand: bool = False) -> Any:
            if by_hand:
                made = client.create_flow_run(reconcile.reconcile, name=name, tags=list(tags))
            else:
                made = client.create_flow_run_from_deployment(deployment, name=name, tags=list(tags))
            client.set_flow_run_state(made.id, state, force=True)
            return lambda: client.read_flow_run(made.id)

        yield run


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits before a run is taken up or buried."""
    monkeypatch.setattr(attempts, "REST", 0)
    monkeypatch.setattr(attempts, "STUCK", timedelta(0))
    monkeypatch.setattr(attempts, "SETTLED", timedelta(0))


def test_runs_that_died_or_whose_services_were_away_go_on_and_no_others(
    deployed: Callable[..., Any], at_once: None
) -> None:
    away = Failed(message="Flow run encountered an exception: Unreachable: E-S3-UNAVAILABLE it does not answer")
    taken = {
        "crashed": deployed("crashed", Crashed()),
        "lost by its worker": deployed("lost by its worker", Pending()),
        "without its store": deployed("without its store", away),
    }
    left = {
        "of another project": deployed("of another project", Crashed(), tags=()),
        "by hand": deployed("by hand", Crashed(), by_hand=True),
        "of bad data": deployed("of bad data", Failed(message="BadInput: E-DATA-EMPTY the source has no rows")),
        "finished": deployed("finished", Completed()),
    }
    assert {each.which for each in attempts.take_up()} == set(taken)
    assert {run().state_name for run in taken.values()} == {"AwaitingRetry"}
    assert "AwaitingRetry" not in {run().state_name for run in left.values()}
    assert list(attempts.take_up()) == []


def test_a_run_that_dies_before_it_begins_is_taken_up_three_times_and_then_fails(
    deployed: Callable[..., Any], at_once: None
) -> None:
    run = deployed("not importable", Crashed())
    for _ in range(3):
        assert [each.done for each in attempts.take_up()] == ["died, taken up again"]
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run().id, Crashed(), force=True)
    assert run().run_count == 0, "it never began"
    assert [each.done for each in attempts.take_up()] == ["died 4 times, not taken up again"]
    assert run().state_name == "Failed"
    assert run().state.message.startswith("E-CRASH-LOOP this run died 4 times")
    assert list(attempts.take_up()) == []


def test_tasks_that_died_with_their_run_are_shown_as_dead_and_those_of_living_runs_left_alone(
    prefect_server: None, at_once: None
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
        assert [each.which for each in attempts.unburied()] == ["finetune of dead"]
        assert list(attempts.unburied()) == []
        client.set_flow_run_state(living.id, Crashed(), force=True)
