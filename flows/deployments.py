"""What Prefect has to know of a recipe: deployments with their schedules, and automations that start them.

`wanted` says it as plain data; `flows.scheduling` brings a server there. A recipe travels as it is now, in the
parameters: editing its file changes no run until it is scheduled again. Who owns what is told by names: `retrain/NAME`,
`sensor/NAME` and automations that begin with `vernal NAME: ` are the recipe's; the rest has no name of a model in it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows import events
from infra.settings import HEARTBEAT, IN_PREFECT
from tasks.recipe import Recipe, Schedule, Work

Plain = dict[str, Any]

TAG = "vernal"
RESUMED = "auto-resume"  # runs of this tag that crash are taken up again
RESUMES = 3  # times that they are, at most
REST = 30  # seconds from a crash until then: a worker tells of one death twice, 18 s apart on a busy machine
GOES_ON = ("AwaitingRetry", "Scheduled", "Pending", "Running")  # states after which nobody has to take it up
ZOMBIE = 3 * HEARTBEAT  # seconds without one after which it is dead
MIDNIGHT = datetime(2024, 1, 1)  # from which intervals count, on the clock of their time zone
SMALL = {"gpus": "0", "cpu": "1", "memory": "4Gi"}  # of what does not train, in the shipped template for Kubernetes
ONE_AT_A_TIME = {"concurrency_limit": 1, "concurrency_options": {"collision_strategy": "ENQUEUE"}}


@dataclass
class Wanted:
    """Deployments by FLOW/NAME and automations by name, as the API takes them; ids of others stand as names."""

    deployments: dict[str, Plain] = field(default_factory=dict)
    automations: dict[str, Plain] = field(default_factory=dict)


def wanted(recipe: Recipe, beside: Path, folder: Path) -> Wanted:
    """What a recipe wants; `beside`: its folder; `folder`: where a process of the local pool works."""
    found = Wanted()
    given = {"recipe": recipe.content, "beside": str(beside)}
    changed = [(each, {"recipe": recipe.changed(each.set).content} if each.set else {}) for each in recipe.schedule]
    found.deployments[f"retrain/{recipe.name}"] = {
        **_deployment(recipe.work, folder, [TAG, recipe.name, RESUMED], trains=True),
        "description": f"Trains {recipe.name} on what its source holds, and lets the gate decide.",
        "parameters": given,
        "schedules": [_schedule(each.name, _clock(each), parameters) for each, parameters in changed],
    }
    if recipe.triggers:
        found.deployments[f"sensor/{recipe.name}"] = {
            **_deployment(recipe.work, folder, [TAG, recipe.name, RESUMED]),
            "description": f"Looks whether there is a reason to train {recipe.name}: one run for each.",
            "parameters": {"recipe": recipe.model_dump(mode="json"), "beside": str(beside)},
            "schedules": _polls(recipe),
        }
        found.automations |= _reasons(recipe)
    if recipe.work.notify:
        found.automations[owned(recipe.name, "failed or refused")] = _notification(recipe)
    return found


def shared(work: Work, folder: Path) -> Wanted:
    """What all recipes have in common."""
    found = Wanted()
    found.deployments["rollout/vernal"] = {
        **_deployment(work, folder, [TAG, RESUMED]),
        "description": "Reads a version that went live back from the store and proves that it answers.",
        "parameters": {},
        "schedules": [],
    }
    lives = {events.PROMOTED, events.ROLLED_BACK}
    given = {"name": "{{ event.resource.name }}"} | _numbers()
    found.automations["vernal: a version went live"] = _on(lives, "vernal.model.*", "rollout/vernal", given)
    clock = {"cron": "*/15 * * * *", "timezone": "UTC", "day_or": True}
    found.deployments["reconcile/vernal"] = {
        **_deployment(work, folder, [TAG]),
        "description": "Makes what Prefect and MLflow show what the ledger says.",
        "parameters": {},
        "schedules": [_schedule("every-15-minutes", clock, {})],
    }
    found.automations["vernal: silent runs are dead"] = {
        "description": f"No sign of life for {ZOMBIE} s: the run is crashed.",
        "trigger": {
            **_event(["prefect.flow-run.*"], "prefect.flow-run.*"),
            "after": ["prefect.flow-run.heartbeat"],
            "match_related": _tagged(TAG),
            "posture": "Proactive",
            "within": ZOMBIE,
        },
        "actions": [{"type": "change-flow-run-state", "state": "CRASHED", "message": "no sign of life any more"}],
    }
    found.automations["vernal: crashed runs go on"] = {
        "description": f"{REST} s after a crash reconcile lets the run go on from its last checkpoint.",
        "trigger": {
            **_event([f"prefect.flow-run.{name}" for name in GOES_ON], "prefect.flow-run.*"),
            "after": ["prefect.flow-run.Crashed"],
            "match_related": _tagged(RESUMED),
            "posture": "Proactive",
            "within": REST,
        },
        "actions": [{"type": "run-deployment", "deployment": "reconcile/vernal", "parameters": {}}],
    }
    return found


def owned(model: str, what: str) -> str:
    """The name of an automation of a recipe."""
    return f"vernal {model}: {what}"


def _deployment(work: Work, folder: Path, tags: list[str], *, trains: bool = False) -> Plain:
    """What all deployments have in common. Code comes with the environment or the image; where nothing is said to be
    pulled, Prefect copies the whole folder in which the worker stands for every run."""
    environment = {**IN_PREFECT, "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT)}
    process = work.type == "process"
    stand = {"directory": str(folder) if process else "."}
    variables = {"env": environment} | ({} if process else {"image": work.image})
    return {
        "tags": tags,
        "work_pool_name": work.pool,
        "work_queue_name": work.queue,
        "job_variables": variables | (SMALL if work.type == "kubernetes" and not trains else {}),
        "pull_steps": [{"prefect.deployments.steps.set_working_directory": stand}],
        "enforce_parameter_schema": True,
        "paused": False,
        **ONE_AT_A_TIME,
    }


def _schedule(slug: str, clock: Plain, parameters: Plain) -> Plain:
    return {"slug": slug, "schedule": clock, "active": True, "parameters": parameters}


def _clock(schedule: Schedule) -> Plain:
    """A schedule as Prefect spells it."""
    if schedule.cron:
        return {"cron": schedule.cron, "timezone": schedule.timezone, "day_or": True}
    if schedule.rrule:
        return {"rrule": schedule.rrule, "timezone": schedule.timezone}
    midnight = MIDNIGHT.replace(tzinfo=ZoneInfo(schedule.timezone))
    return {"interval": schedule.interval, "anchor_date": midnight.isoformat(), "timezone": schedule.timezone}


def _polls(recipe: Recipe) -> list[Plain]:
    poll = recipe.triggers.poll if recipe.triggers else None
    if poll is None:
        return []
    clock = Schedule(cron=poll) if isinstance(poll, str) else Schedule.model_construct(interval=poll, timezone="UTC")
    return [_schedule("poll", _clock(clock), {})]


def _reasons(recipe: Recipe) -> dict[str, Plain]:
    """Events that start the sensor. Many within a while are one; the sensor comes when the while is over.

    Prefect fires at the first event and is deaf to the rest of the window. Who is told late looks late: whatever came
    in the window is there when the sensor looks. How long after a run for drift another one may start is the sensor's
    matter: evidence that started nothing must not silence what is found later.
    """
    assert recipe.triggers
    reasons = [("data", events.DATA_ARRIVED, recipe.triggers.debounce)]
    if recipe.triggers.drift:
        reasons.append(("drift", events.DRIFT_FOUND, 0))
    if recipe.triggers.decay:
        reasons.append(("decay", events.DECAY_FOUND, 0))
    found = {}
    for why, event, later in reasons:
        given = {"why": why, "evidence": _typed("event.payload | tojson")}
        about = events.resource(recipe.name)["prefect.resource.id"]
        automation = _on({event}, about, f"sensor/{recipe.name}", given)
        automation["trigger"]["within"] = recipe.triggers.debounce
        automation["actions"][0]["schedule_after"] = later
        found[owned(recipe.name, f"{why} arrived" if why == "data" else f"{why} found")] = automation
    return found


def _notification(recipe: Recipe) -> Plain:
    """People hear of runs that failed and of challengers that were refused, by the block that the recipe names."""
    about = f"{recipe.name}: {{{{ event.event }}}}"
    text = "{{ event.resource.name }}: {{ event.event }}\n{{ event.payload | tojson }}"
    return {
        "description": f"Tells {recipe.work.notify} of failed runs and refused challengers.",
        "trigger": {
            "type": "compound",
            "require": "any",
            "within": 0,
            "triggers": [
                {**_event(["prefect.flow-run.Failed"], "prefect.flow-run.*"), "match_related": _tagged(recipe.name)},
                _event([events.REFUSED], events.resource(recipe.name)["prefect.resource.id"]),
            ],
        },
        "actions": [{"type": "send-notification", "block": recipe.work.notify, "subject": about, "body": text}],
    }


def _on(expected: set[str], about: str, deployment: str, parameters: Plain) -> Plain:
    """Runs a deployment when one of these events happens to a model."""
    return {
        "description": f"{', '.join(sorted(expected))} of {about} starts {deployment}.",
        "trigger": _event(sorted(expected), about),
        "actions": [{"type": "run-deployment", "deployment": deployment, "parameters": parameters}],
    }


def _event(expected: list[str], about: str) -> Plain:
    return {
        "type": "event",
        "posture": "Reactive",
        "expect": expected,
        "match": {"prefect.resource.id": [about]},
        "for_each": ["prefect.resource.id"],
        "threshold": 1,
        "within": 0,
    }


def _tagged(tag: str) -> Plain:
    return {"prefect.resource.id": [f"prefect.tag.{tag}"], "prefect.resource.role": ["tag"]}


def _numbers() -> Plain:
    return {name: _typed(f"event.payload.{name}") for name in ("version", "decision")}


def _typed(expression: str) -> Plain:
    """A value of an event that keeps its type; Prefect's templates alone make texts, which a flow's schema refuses."""
    template = {"__prefect_kind": "jinja", "template": f"{{{{ {expression} }}}}"}
    return {"__prefect_kind": "json", "value": template}
