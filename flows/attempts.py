"""The attempts of one run: what an attempt left at work when it died is shown as dead, and there is an end to them."""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from prefect import runtime

from flows import orchestrator
from flows.deployments import RESUMES
from tasks.errors import Coded

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

log = logging.getLogger("vernal.retrain")


def number() -> int:
    """Which attempt of its run this is, from 1."""
    return int(runtime.flow_run.run_count or 1)


def no_crash_loop() -> None:
    """Refuses to take up a run that dies again and again: what killed it (memory, most often) will kill it again.

    Raises:
        Coded: E-CRASH-LOOP.
    """
    if number() > 1 + RESUMES:
        raise Coded(
            "E-CRASH-LOOP",
            f"this run died {number() - 1} times and is not taken up again; its log and the worker's say of what; "
            f"mend that and start it anew: it goes on from the newest checkpoint",
        )


def bury_earlier() -> None:
    """Tasks of this run's earlier attempts are shown as crashed: nobody was left to say so when they died."""
    if number() == 1:
        return
    try:
        with orchestrator.api() as client:
            buried = list(bury(client, {"id": {"any_": [runtime.flow_run.id]}}, number()))
    except Coded as error:  # `reconcile` comes by
        log.warning("what died with the attempt before is still shown as running: %s", error)
    else:
        log.info("attempt %d; died with the one before: %s", number(), ", ".join(buried) or "nothing")


def bury(client: "SyncPrefectClient", runs: dict[str, Any], before: float) -> Iterator[str]:
    """Names of tasks that were at work in attempts `before` this one, of those flow runs that a filter lets through."""
    at_work = {"state": {"type": {"any_": ["RUNNING", "PENDING"]}}}
    dead = {"type": "CRASHED", "name": "Crashed", "message": "died with its run"}
    for task in client.request("POST", "/task_runs/filter", json={"task_runs": at_work, "flow_runs": runs}).json():
        if task["flow_run_run_count"] < before:
            path: Any = f"/task_runs/{task['id']}/set_state"
            client.request("POST", path, json={"state": dead, "force": True})
            yield task["name"]
