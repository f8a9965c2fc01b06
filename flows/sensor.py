"""Whether there is a reason to train again, and exactly one run for each.

The sensor is started by events and by a clock, as often as they like. It looks at the source itself: an event says that
something happened, the source says what. A reason is a state of recipe and source that nobody has trained on yet; its
key is their digest. The run is made under this key, which Prefect makes once, and then noted in the ledger.

A sensor that dies between the two leaves a run that the next one is handed again. An event that comes while a sensor
looks starts the next, which looks again. Where Prefect lost its database, a noted run that it does not know is made
again; where that run had finished, the store knows, and nothing is made.
"""

import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, TypeGuard
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.states import Completed
from pydantic import JsonValue

from flows import attempts, orchestrator, plan
from infra.ledger import Cause, Ledger
from infra.settings import settings
from tasks import stages
from tasks.data import sources
from tasks.patience import patiently
from tasks.recipe import Received, Recipe
from tasks.records import digest_of

Why = Literal["poll", "data", "drift", "decay"]

log = logging.getLogger("vernal.sensor")


@dataclass(frozen=True)
class Found:
    """What a look came to: whether to start a run, why or why not, and what to note of it."""

    key: str
    start: bool
    reason: str
    body: dict[str, Any]


@flow(name="sensor", flow_run_name="{recipe.name}", persist_result=False)
def sensor(
    recipe: Received, beside: str = ".", why: Why = "poll", evidence: dict[str, JsonValue] | None = None
) -> State[None]:
    """One run of `retrain` if there is a new reason for it, none if there is not; `evidence`: an event's payload."""
    attempts.bury_earlier()
    found = patiently(lambda: act(recipe, beside, why, evidence or {}))
    log.info("%s: %s", recipe.name, found.reason)
    return Completed(name="Run started" if found.start else "Nothing new", message=found.reason)


def act(recipe: Recipe, beside: str, why: Why, evidence: dict[str, Any]) -> Found:
    """A look, and what follows of it; done twice it is done once."""
    ledger = Ledger(settings().ledger_url)
    found = look(recipe, Path(beside), why, evidence, ledger.causes(recipe.name))
    if found.start:
        run = start(recipe, beside, why, found.key)
        ledger.note(recipe.name, found.key, {**found.body, "run": run})
    elif found.body:
        ledger.note(recipe.name, found.key, found.body)
    return found


def look(recipe: Recipe, beside: Path, why: Why, evidence: dict[str, Any], causes: list[Cause]) -> Found:
    """Compares the source with what was trained on, by a listing; rows are not read."""
    planned = plan.walk(recipe, beside)
    source = sources.fingerprint(planned.parts)
    key = digest_of([recipe.digest, source])
    body = {
        "why": why,
        "recipe": recipe.digest,
        "source": source,
        "bytes": sum(map(sources.size, planned.parts)),
        "evidence": evidence,
    }
    noted = next((each for each in causes if each.key == key), None)
    if noted:
        run = noted.body.get("run")
        gone = run and not planned.finished and not known(run)
        reason = f"run {run} of {noted.at} is not known any more, made again" if gone else f"seen on {noted.at}"
        return Found(key, bool(gone), reason, {})
    if planned.finished:
        return Found(key, False, "trained on already", {**body, "run": None})
    if grave(recipe, why, evidence) and not cooling(recipe, why, causes):
        return Found(key, True, f"{why}: {json.dumps(evidence)}", body)
    start, reason = enough(recipe, causes[-1] if causes else None, body)
    return Found(key, start, reason, body if start else {})


def enough(recipe: Recipe, last: Cause | None, now: dict[str, Any]) -> tuple[bool, str]:
    """Whether what is new about the source is worth a run by itself, and why."""
    triggers = recipe.triggers
    if last is None:
        return True, "nothing was noted of this model before"
    if last.body["recipe"] != now["recipe"]:
        return True, "the recipe is another"
    if triggers is None or triggers.new_rows == 1:
        return True, "the source changed"
    rows = grown(recipe, last.body, now["bytes"])
    if rows is None:
        return True, "the source changed, and rows of the last run are not known"
    return rows >= triggers.new_rows, f"about {rows:,} new rows by size, wanted {triggers.new_rows:,} or more"


def grave(recipe: Recipe, why: Why, evidence: dict[str, Any]) -> bool:
    """Whether drift or decay is as large as the recipe says that it has to be."""
    triggers = recipe.triggers
    if why == "drift" and triggers and triggers.drift:
        psi = evidence.get("psi")
        return _is_number(psi) and psi >= triggers.drift.psi
    if why == "decay" and triggers and triggers.decay:
        value = evidence.get("value")
        low = _is_number(value) and value < triggers.decay.below
        return low and evidence.get("metric") == triggers.decay.metric
    return False


def cooling(recipe: Recipe, why: Why, causes: list[Cause]) -> bool:
    """Whether a run was started for the same reason less than `triggers.cooldown` seconds ago."""
    began = [datetime.fromisoformat(each.at) for each in causes if each.body["why"] == why and each.body["run"]]
    age = timedelta(seconds=recipe.triggers.cooldown if recipe.triggers else 0)
    return bool(began) and datetime.now(UTC) - max(began) < age


def grown(recipe: Recipe, last: dict[str, Any], size: int) -> int | None:
    """Rows that came since the last cause, by the bytes of a row; what did not grow was written anew, and counts whole.

    None: how many rows there were is not known, since no run has read them.
    """
    snapshot = stages.find(stages.ingest(last["source"], recipe.task, recipe.data))
    if snapshot is None or not last["bytes"]:
        return None
    rows = snapshot.rows + snapshot.quarantined
    return round(rows * (size / last["bytes"] - 1)) if size > last["bytes"] else rows


def start(recipe: Recipe, beside: str, why: Why, key: str) -> str:
    """Id of the one run of `retrain` that this key has."""
    with orchestrator.api() as client:
        deployment = client.read_deployment_by_name(f"retrain/{recipe.name}")
        run = client.create_flow_run_from_deployment(
            deployment.id,
            parameters={"recipe": recipe.content, "beside": beside},
            idempotency_key=key,
            tags=[why],
        )
    return str(run.id)


def known(run: str) -> bool:
    """Whether Prefect knows a run, whatever became of it."""
    with orchestrator.api() as client:
        return _read(client, UUID(run))


def _read(client: SyncPrefectClient, run: UUID) -> bool:
    try:
        client.read_flow_run(run)
    except ObjectNotFound:
        return False
    return True


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)
