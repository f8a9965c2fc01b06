"""The attempts of one run: who died is taken up again, what it left at work is shown as dead, and there is an end.

A crashed run waits for `reconcile`, which an automation starts half a minute later and the clock every quarter of an
hour. It counts how often the run was taken up, by the states that Prefect keeps: a run that dies before it begins (a
module that cannot be imported, an image that is not there) never counts its attempts itself.
"""

import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from prefect import runtime

from flows import orchestrator
from flows.deployments import REST, RESUMED, RESUMES, TAG
from tasks.errors import Coded
from tasks.release.mending import Mended

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

LATELY = timedelta(days=1)  # what happened before that is left to people
STUCK = timedelta(minutes=30)  # in which a worker that took a run has begun it, the pull of a large image included
SETTLED = timedelta(minutes=1)  # after its end, in which the last words of a run's tasks come in
RETRY = "AwaitingRetry"  # Prefect's name of the state in which a run waits for its next attempt
UNREACHABLE = re.compile(r"\bUnreachable\b")  # the error that a failed state names
CRASH_LOOP = (
    "E-CRASH-LOOP this run died {} times and is not taken up again; its log and the worker's say of what; mend that "
    "and start it anew: it goes on from the newest checkpoint"
)

log = logging.getLogger("vernal.retrain")


def number() -> int:
    """Which attempt of its run this is, from 1."""
    return int(runtime.flow_run.run_count or 1)


def take_up() -> Iterator[Mended]:
    """Runs of workers that died, or whose services were away, go on from their last stage; `RESUMES` times at most."""
    if not orchestrator.there():
        return
    now = datetime.now(UTC)
    ours = {"tags": {"all_": [RESUMED]}, "deployment_id": {"is_null_": False}}
    ended = {"after_": (now - LATELY).isoformat(), "before_": (now - timedelta(seconds=REST)).isoformat()}
    begun = {"after_": (now - LATELY).isoformat(), "before_": (now - STUCK).isoformat()}
    with orchestrator.api() as client:
        dead = _runs(client, {**ours, "state": _of("CRASHED", "FAILED"), "end_time": ended})
        stuck = _runs(client, {**ours, "state": _of("PENDING"), "expected_start_time": begun})
        for run in [*filter(_died, dead), *(each for each in stuck if _since(each) < now - STUCK)]:
            if done := _again(client, run):
                yield Mended("flow run", run["name"], done)


def unburied() -> Iterator[Mended]:
    """Tasks that are shown at work in runs that have ended: they died with them."""
    if not orchestrator.there():
        return
    before = {"before_": (datetime.now(UTC) - SETTLED).isoformat()}
    over = {"state": _of("COMPLETED", "FAILED", "CRASHED", "CANCELLED"), "tags": {"all_": [TAG]}, "end_time": before}
    with orchestrator.api() as client:
        for name in _bury(client, over):
            yield Mended("task run", name, "crashed with its run")


def bury_earlier() -> None:
    """Tasks of this run's earlier attempts are shown as crashed: nobody was left to say so when they died."""
    if number() == 1:
        return
    try:
        with orchestrator.api() as client:
            buried = list(_bury(client, {"id": {"any_": [runtime.flow_run.id]}}, number()))
    except Coded as error:  # `reconcile` comes by
        log.warning("what died with the attempt before is still shown as running: %s", error)
    else:
        log.info("attempt %d; died with the one before: %s", number(), ", ".join(buried) or "nothing")


def _again(client: "SyncPrefectClient", run: dict[str, Any]) -> str:
    """What was done about a run that died; "": nothing."""
    history = client.request("GET", "/flow_run_states/", params={"flow_run_id": run["id"]}).json()
    times = sum(state["name"] == RETRY for state in history)
    if times < RESUMES:
        _set(client, "flow", run, "SCHEDULED", RETRY, "goes on from its last stage")
        return "died, taken up again"
    if run["state_type"] == "FAILED":
        return ""
    _set(client, "flow", run, "FAILED", "Failed", CRASH_LOOP.format(times + 1))
    return f"died {times + 1} times, not taken up again"


def _bury(client: "SyncPrefectClient", runs: dict[str, Any], before: int | None = None) -> Iterator[str]:
    """Names of tasks at work in flow runs that a filter lets through, in all attempts or in those `before` this one."""
    asked = {"task_runs": {"state": _of("RUNNING", "PENDING")}, "flow_runs": runs}
    for task in client.request("POST", "/task_runs/filter", json=asked).json():
        if before is None or task["flow_run_run_count"] < before:
            _set(client, "task", task, "CRASHED", "Crashed", "died with its run")
            yield task["name"]


def _runs(client: "SyncPrefectClient", wanted: dict[str, Any]) -> list[dict[str, Any]]:
    return list(client.request("POST", "/flow_runs/filter", json={"flow_runs": wanted}).json())


def _set(client: "SyncPrefectClient", kind: str, run: dict[str, Any], state: str, name: str, message: str) -> None:
    path: Any = f"/{kind}_runs/{run['id']}/set_state"
    body = {"state": {"type": state, "name": name, "message": message}, "force": True}
    client.request("POST", path, json=body)


def _died(run: dict[str, Any]) -> bool:
    """Whether another attempt may mend it: bad data fails again."""
    return run["state_type"] == "CRASHED" or bool(UNREACHABLE.search(run["state"]["message"] or ""))


def _of(*types: str) -> dict[str, Any]:
    return {"type": {"any_": list(types)}}


def _since(run: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(run["state"]["timestamp"])
