"""How a run of `retrain` ends: the state that people read, the event that others hear, what a dead run leaves behind.

The hooks may run in another process than the flow did, minutes after it died: they know its arguments and nothing else.
"""

import logging
from pathlib import Path
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import TypeAdapter

from flows import attempts, events, page, plan
from infra.ledger import Kind
from infra.registry import Status
from tasks.errors import Coded
from tasks.model.curves import registry
from tasks.recipe import Received, Recipe
from tasks.records import Verdict

log = logging.getLogger("vernal.retrain")
logging.getLogger("vernal").setLevel(logging.INFO)  # Prefect's pages take what is said, on a worker as well


def reused(verdict: Verdict) -> State[Verdict]:
    """The end of a run that found everything done."""
    if attempts.number() > 1:  # the attempt before may have died between the verdict and the event
        events.decided(verdict.name, verdict.version, kind(verdict))
    return Completed(name="Reused", message=_said(verdict), data=verdict)


def judged(verdict: Verdict) -> State[Verdict]:
    """The end of a run that came to a verdict; others hear of it."""
    if verdict.pending:
        return Completed(name="Waiting for approval", message=_said(verdict), data=verdict)
    events.decided(verdict.name, verdict.version, kind(verdict))
    name = "Promoted" if verdict.promoted else "Refused by the gate"
    return Completed(name=name, message=_said(verdict), data=verdict)


def kind(verdict: Verdict) -> Kind:
    """What the ledger calls it."""
    return "promoted" if verdict.promoted else "refused"


def close(flow: Any, flow_run: Any, state: State[Any]) -> None:
    """Hook: what the run opened in MLflow is closed."""
    status: Status = "FAILED" if state.is_failed() else "KILLED"
    try:
        recipe = TypeAdapter[Recipe](Received).validate_python(flow_run.parameters["recipe"])
        run_key = plan.walk(recipe, Path(flow_run.parameters.get("beside", "."))).run_key
        registry().close(recipe.name, run_key, status)
    except Coded as error:  # the source may be gone; `reconcile` ends what is left
        log.warning("the MLflow run of %s is still open: %s", flow_run.name, error)


def _said(verdict: Verdict) -> str:
    return f"{verdict.name} version {verdict.version} {page.outcome(verdict)}: {'; '.join(verdict.reasons)}"
