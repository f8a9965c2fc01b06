"""What happened to a model, told to Prefect: automations start the next flow, people see why.

An event is about the resource `vernal.model.NAME`. Its id follows from what it tells, so the same told twice is one row
in Prefect's database; whoever acts on an event must bear it twice all the same. Nothing depends on it being heard: the
ledger is the truth, and what got lost is told again by `reconcile`.
"""

import json
import logging
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from flows import orchestrator
from infra.ledger import Decision, Kind, Ledger
from infra.settings import settings
from tasks.errors import BadInput, Coded

DATA_ARRIVED = "vernal.data.arrived"
DRIFT_FOUND = "vernal.drift.found"
DECAY_FOUND = "vernal.decay.found"
PROMOTED = "vernal.promoted"
REFUSED = "vernal.refused"
ROLLED_BACK = "vernal.rolled-back"
DEPLOYABLE = "vernal.deployable"

FROM_OUTSIDE: dict[str, dict[str, Any]] = {  # what anybody may tell, and what its payload has to say
    DATA_ARRIVED: {},
    DRIFT_FOUND: {"psi": float},
    DECAY_FOUND: {"metric": str, "value": float},
}

OURS = uuid.uuid5(uuid.NAMESPACE_URL, "vernal.events")

log = logging.getLogger("vernal.events")


def resource(model: str) -> dict[str, str]:
    """What an event about a model is about."""
    return {"prefect.resource.id": f"vernal.model.{model}", "prefect.resource.name": model}


def written(event: str, model: str, payload: dict[str, Any], key: str) -> dict[str, Any]:
    """The event as `POST /api/events` takes it; of the same event, model and key, the same id."""
    return {
        "id": str(uuid.uuid5(OURS, f"{event}\n{model}\n{key}")),
        "occurred": datetime.now(UTC).isoformat(),
        "event": event,
        "resource": resource(model),
        "related": [],
        "payload": payload,
    }


def checked(event: str, payload: str) -> dict[str, Any]:
    """The payload of an event from outside.

    Raises:
        BadInput: E-EVENT, nobody outside tells this event, or not so.
    """
    wanted = FROM_OUTSIDE.get(event)
    if wanted is None:
        raise BadInput("E-EVENT", f"{event!r:.80} is not told from outside; wanted {', '.join(FROM_OUTSIDE)}")
    with suppress(ValueError, KeyError, RecursionError):
        found: dict[str, Any] = json.loads(payload)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # as it is sent; Python reads more than that
        if isinstance(found, dict) and all(_is(found[key], kind) for key, kind in wanted.items()):
            return found
    fields = ", ".join(f"{key} ({kind.__name__})" for key, kind in wanted.items())
    form = "a JSON object, without NaN or infinity" + (f", with {fields}" if fields else "")
    raise BadInput("E-EVENT", f"payload {payload!r:.80}: wanted {form}")


def _is(value: Any, kind: type) -> bool:
    """Whether it is of this kind; a number may be a whole one, and true is none."""
    return isinstance(value, kind) or (kind is float and type(value) is int)


def send(event: str, model: str, payload: dict[str, Any], key: str) -> str:
    """Tells the event; its id.

    Raises:
        BadInput, Unreachable, Denied: as `orchestrator.api`.
    """
    told = written(event, model, payload, key)
    with orchestrator.api() as client:
        client.request("POST", "/events", json=[told])
    log.info("told Prefect: %s of %s", event, model)
    return str(told["id"])


def emit(event: str, model: str, payload: dict[str, Any], key: str) -> None:
    """Tells the event where there is a Prefect server; one that does not listen ends no run."""
    if not orchestrator.there():
        return
    try:
        send(event, model, payload, key)
    except Coded as error:
        log.warning("%s of %s was not heard, `reconcile` will tell it again: %s", event, model, error)


def decided(model: str, version: int, kind: Kind) -> None:
    """Tells the ledger's last decision of this kind about a version, as `emit` does."""
    import prefect.settings  # noqa: F401  whose profile may name the server

    if not orchestrator.there():
        return
    try:
        decisions = Ledger(settings().ledger_url).decisions(model)
    except Coded as error:
        log.warning("the verdict on %s was not told, `reconcile` will tell it: %s", model, error)
        return
    for decision in [each for each in decisions if (each.version, each.kind) == (version, kind)][-1:]:
        tell(decision)


def tell(decision: Decision, hours: int = 0) -> None:
    """Tells a decision of the ledger: `vernal.promoted`, `vernal.refused` or `vernal.rolled-back`.

    Args:
        hours: how old the decision is, where it is told again because nobody acted upon it.
    """
    payload = {
        "version": decision.version,
        "previous": decision.previous,
        "decision": decision.id,
        "reasons": list(decision.body.get("reasons", ())),
    }
    emit(f"vernal.{decision.kind}", decision.model, payload, _key(decision, hours))


def heard(decision: Decision, hours: int) -> bool:
    """Whether Prefect knows the event of a decision that is so many hours old.

    Raises:
        BadInput, Unreachable, Denied: as `orchestrator.api`.
    """
    known = written(f"vernal.{decision.kind}", decision.model, {}, _key(decision, hours))["id"]
    with orchestrator.api() as client:
        found = client.request("POST", "/events/filter", json={"filter": {"id": {"id": [known]}}})
    return bool(found.json()["events"])


def _key(decision: Decision, hours: int) -> str:
    return f"{decision.id} after {hours} h" if hours else str(decision.id)
