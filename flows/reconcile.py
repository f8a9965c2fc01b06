"""Every quarter of an hour, or by hand: what Prefect and MLflow show is brought back to what the ledger says.

Each thing is looked at by itself, so that one service that does not answer keeps nobody from mending the rest; its
error is raised at the end.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import attempts, events, orchestrator
from flows.deployments import RESUMED, RESUMES, TAG
from infra.ledger import Ledger
from infra.settings import settings
from tasks.errors import Coded, Missing
from tasks.release import approval, mending
from tasks.release.mending import Mended

GRACE = 300.0  # seconds that a decision has to be heard of and acted upon
AGAIN = 3600.0  # seconds between two tellings of a decision that nobody acts upon
STRANDED = timedelta(seconds=60)  # after a crash the automation has had its chance
LATELY = timedelta(days=1)  # who crashed before that is left to people


@flow(name="reconcile", persist_result=False)
def reconcile() -> State[list[Mended]]:
    """Mends everything once; a table says what."""
    done = list[Mended]()
    try:
        done.extend(mend())
    finally:
        table = [each._asdict() for each in done] or [Mended("nothing", "", "")._asdict()]
        create_table_artifact(
            key="reconcile", table=table, description=f"{len(done)} things were not as they should be"
        )
    return Completed(name="Mended" if done else "Nothing to do", message=f"{len(done)} things mended", data=done)


def mend() -> Iterator[Mended]:
    """Everything that was not as it should be, each as soon as it is mended.

    Raises:
        Coded: the first error, when the rest was mended.
    """
    models = Ledger(settings().ledger_url).models()
    looks: list[Callable[[], Iterable[Mended]]] = [mending.runs, stranded, unburied]
    looks += [partial(look, model) for model in models for look in (overdue, mending.pointers, unheard)]
    failed: Coded | None = None
    for look in [*looks, mending.leftovers]:
        try:
            yield from look()
        except Missing as error:
            yield Mended("registry", "", f"left as it is: {error}")
        except Coded as error:
            failed = failed or error
    if failed:
        raise failed


def stranded() -> Iterator[Mended]:
    """Crashed runs that were not taken up again. A Prefect server that was started anew waits for events which it heard
    before, and lets the automation hear of a crash a quarter of an hour late."""
    if not orchestrator.there():
        return
    now = datetime.now(UTC)
    window = {"after_": (now - LATELY).isoformat(), "before_": (now - STRANDED).isoformat()}
    crashed = {"state": {"type": {"any_": ["CRASHED"]}}, "tags": {"all_": [RESUMED]}, "end_time": window}
    again = {"type": "SCHEDULED", "name": "AwaitingRetry", "message": "goes on from its last stage"}
    with orchestrator.api() as client:
        found = client.request("POST", "/flow_runs/filter", json={"flow_runs": crashed}).json()
        for run in [each for each in found if each["run_count"] <= RESUMES]:
            path: Any = f"/flow_runs/{run['id']}/set_state"
            client.request("POST", path, json={"state": again, "force": True})
            yield Mended("flow run", run["name"], "crashed, taken up again")


def unburied() -> Iterator[Mended]:
    """Tasks that are shown at work in runs that have ended: they died with them."""
    if not orchestrator.there():
        return
    over = {"state": {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}, "tags": {"all_": [TAG]}}
    with orchestrator.api() as client:
        for name in attempts.bury(client, over, before=math.inf):
            yield Mended("task run", name, "crashed with its run")


def overdue(model: str) -> Iterator[Mended]:
    """Requests for approval that nobody answered in time."""
    for decision in approval.overdue(model):
        events.tell(decision)
        yield Mended("approval", f"{model} version {decision.version}", "refused: nobody approved it in time")


def unheard(model: str) -> Iterator[Mended]:
    """A live decision whose version nobody has rolled out: told again, once an hour, if Prefect has not heard it."""
    decision = mending.unrolled(model)
    if decision is None or not orchestrator.there():
        return
    age = (datetime.now(UTC) - datetime.fromisoformat(decision.at)).total_seconds()
    if age > GRACE and not events.heard(decision, hours := int(age // AGAIN)):
        events.tell(decision, hours)
        yield Mended("event", f"{model} version {decision.version}", f"vernal.{decision.kind} told again")
