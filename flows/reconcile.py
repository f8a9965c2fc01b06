"""Every quarter of an hour, or by hand: what Prefect and MLflow show is brought back to what the ledger says.

Each thing is looked at by itself, so that one service that does not answer keeps nobody from mending the rest; its
error is raised at the end.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import attempts, events, orchestrator
from infra.ledger import Ledger
from infra.settings import settings
from tasks.errors import Coded, Missing
from tasks.release import approval, mending
from tasks.release.mending import Mended

GRACE = 300.0  # seconds that a decision has to be heard of and acted upon
AGAIN = 3600.0  # seconds between two tellings of a decision that nobody acts upon


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
    looks: list[Callable[[], Iterable[Mended]]] = [attempts.take_up, mending.runs, attempts.unburied]
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


def overdue(model: str) -> Iterator[Mended]:
    """Requests for approval that nobody answered in time."""
    for decision in approval.overdue(model):
        events.tell(decision)
        yield Mended("approval", f"{model} version {decision.version}", "refused: nobody approved it in time")


def unheard(model: str) -> Iterator[Mended]:
    """Decisions of the last day of which Prefect has not heard; a live one that nobody rolled out is told hourly."""
    if not orchestrator.there():
        return
    unrolled = mending.unrolled(model)
    for decision in Ledger(settings().ledger_url).decisions(model):
        age = (datetime.now(UTC) - datetime.fromisoformat(decision.at)).total_seconds()
        waits = unrolled is not None and decision.id == unrolled.id
        hours = int(age // AGAIN) if waits else 0
        if GRACE < age and (waits or age < attempts.LATELY.total_seconds()) and not events.heard(decision, hours):
            events.tell(decision, hours)
            yield Mended("event", f"{model} version {decision.version}", f"vernal.{decision.kind} told again")
