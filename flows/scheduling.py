"""Bringing a Prefect server to what recipes want: what is missing is made, what differs is changed, the rest stays.

What is as it should be is not touched, so that runs which stand in the calendar keep their ids. One at a time, under a
lease, since Prefect lets two automations bear one name. A kill in between leaves a part; the same command goes on.
"""

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows import orchestrator
from flows.deployments import TAG, Plain, Wanted, owned, shared, wanted
from flows.turn import GPU
from infra.ledger import Ledger
from infra.settings import settings
from tasks.errors import BadInput, Missing
from tasks.recipe import Recipe, Work

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

PAGE = 200  # rows that the API gives at once
COMING = 3  # run times that are shown
SETS = ("expect", "after", "for_each")  # of a trigger
OWN = ("retrain", "sensor")  # flows that have a deployment for each recipe
COMMON = ("rollout", "reconcile")  # and those that have one for all


@dataclass(frozen=True)
class Change:
    """One thing on the server, and what was done about it."""

    kind: str  # pool, limit, deployment or automation
    name: str
    did: str  # created, changed, unchanged or removed


def schedule(recipes: Iterable[tuple[Recipe, Path]], folder: Path) -> dict[str, Any]:
    """Every change, and the next run times of each deployment that has a clock, by the server.

    Raises:
        BadInput, Missing, Unreachable, Denied: as `orchestrator.api`; E-PREFECT-POOL, E-PREFECT-BLOCK.
    """
    with Ledger(settings().ledger_url).lease("schedule"), orchestrator.api() as client:
        server = Server(client)
        changes: list[Change] = [server.limit(GPU)]
        coming: dict[str, list[str]] = {}
        work = Work()
        for recipe, beside in recipes:
            work = recipe.work
            what = wanted(recipe, beside, folder)
            changes += [server.pool(recipe.work), *server.bring(what), *server.prune(recipe.name, what)]
            coming |= {name: server.coming(name) for name, body in what.deployments.items() if body["schedules"]}
        changes += server.bring(shared(work, folder))
        return {"changes": [vars(each) for each in dict.fromkeys(changes)], "next": coming}


def remove(names: Iterable[str]) -> dict[str, Any]:
    """Takes away all that is a recipe's; with the last recipe, what all had in common. Pools and limits stay."""
    with Ledger(settings().ledger_url).lease("schedule"), orchestrator.api() as client:
        server = Server(client)
        changes = [change for name in names for change in server.prune(name, Wanted())]
        if not any(name.startswith("retrain/") for name in server.ours()):
            changes += server.prune_common()
        return {"changes": [vars(each) for each in changes], "next": {}}


class Server:
    """A Prefect server as a set of named things."""

    def __init__(self, client: "SyncPrefectClient") -> None:
        self._client = client
        self._automations = self._all_automations()

    def pool(self, work: Work) -> Change:
        """A work pool of the kind that is asked for; what it runs with is its worker's matter."""
        found = self._found(f"/work_pools/{work.pool}")
        if found is None:
            body = {"name": work.pool, "type": work.type, "base_job_template": _template(work)}
            if self._made("/work_pools/", body):
                return Change("pool", work.pool, "created")
            return self.pool(work)
        if found["type"] != work.type:
            raise BadInput(
                "E-PREFECT-POOL",
                f"work pool {work.pool!r} is of type {found['type']!r}, the recipe wants {work.type!r}; "
                f"name another in work.pool, or mend work.type",
            )
        return Change("pool", work.pool, "unchanged")

    def limit(self, name: str) -> Change:
        """A global concurrency limit; how many it lets in is the operator's matter once it is there."""
        if self._found(f"/v2/concurrency_limits/{name}") is not None:
            return Change("limit", name, "unchanged")
        made = self._made("/v2/concurrency_limits/", {"name": name, "limit": 1, "active": True})
        return Change("limit", name, "created" if made else "unchanged")

    def bring(self, what: Wanted) -> Iterator[Change]:
        """Deployments and automations made to be as they are wanted."""
        for name, body in what.deployments.items():
            yield Change("deployment", name, self._deploy(name, body))
        for name, body in what.automations.items():
            yield Change("automation", name, self._automate(name, body))

    def prune(self, model: str, what: Wanted) -> Iterator[Change]:
        """What a recipe had and does not want any more is taken away."""
        automations = [name for name in self._automations if name.startswith(owned(model, ""))]
        yield from self._take(automations, [f"{flow}/{model}" for flow in OWN], what)

    def prune_common(self) -> Iterator[Change]:
        """What all recipes had in common is taken away."""
        automations = [name for name in self._automations if name.startswith(f"{TAG}: ")]
        yield from self._take(automations, [f"{flow}/{TAG}" for flow in COMMON], Wanted())

    def coming(self, deployment: str) -> list[str]:
        """The next run times, as the server puts them into its calendar now and not in a minute."""
        found = self._deployment(deployment)
        assert found
        self._call("POST", f"/deployments/{found['id']}/schedule", {"min_runs": COMING})
        asked = {
            "sort": "NEXT_SCHEDULED_START_TIME_ASC",
            "limit": COMING,
            "deployments": {"id": {"any_": [found["id"]]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
        }
        return [run["expected_start_time"] for run in self._call("POST", "/flow_runs/filter", asked)]

    def ours(self) -> list[str]:
        """Deployments that bear our tag, as FLOW/NAME."""
        flows = {each["id"]: each["name"] for each in self._pages("/flows/filter", {})}
        asked = {"deployments": {"tags": {"all_": [TAG]}}}
        return [f"{flows[each['flow_id']]}/{each['name']}" for each in self._pages("/deployments/filter", asked)]

    def _deploy(self, name: str, body: Plain) -> str:
        found = self._deployment(name)
        flow, _, own = name.partition("/")
        whole = {
            "name": own,
            "entrypoint": f"flows.{flow}.{flow}",
            "parameter_openapi_schema": _schema(flow),
            **body,
        }
        if found and all(_same(key, value, found) for key, value in whole.items()):
            return "unchanged"
        flow_id = self._call("POST", "/flows/", {"name": flow})["id"]
        self._call("POST", "/deployments/", {**whole, "flow_id": flow_id})
        return "changed" if found else "created"

    def _automate(self, name: str, body: Plain) -> str:
        whole = _normal({"name": name, "enabled": True, "tags": [TAG], **self._with_ids(body)})
        found = self._automations.get(name, [])
        if [_normal(each) for each in found] == [whole]:
            return "unchanged"
        for each in found[1:]:  # Prefect lets several bear one name
            self._delete(f"/automations/{each['id']}")
        for each in found[:1]:
            self._call("PUT", f"/automations/{each['id']}", whole)
            return "changed"
        self._call("POST", "/automations/", whole)
        named = self._call("POST", "/automations/filter", {"automations": {"name": {"any_": [name]}}})
        for each in named[1:]:  # Prefect's client sends again what was not answered
            self._delete(f"/automations/{each['id']}")
        return "created"

    def _with_ids(self, body: Plain) -> Plain:
        """An automation whose actions name deployments and blocks by id."""
        actions = []
        for action in body["actions"]:
            action = dict(action)
            if name := action.pop("deployment", None):
                found = self._deployment(name)
                action |= {"source": "selected", "deployment_id": found and found["id"]}
            if block := action.pop("block", None):
                action["block_document_id"] = self._block(block)
            actions.append(action)
        return {**body, "actions": actions}

    def _block(self, name: str) -> str:
        kind, _, own = name.partition("/")
        found = self._found(f"/block_types/slug/{kind}/block_documents/name/{own}")
        if found is None:
            raise Missing("E-PREFECT-BLOCK", f"work.notify: Prefect has no block {name}; make it, or mend its name")
        return str(found["id"])

    def _take(self, automations: list[str], deployments: list[str], what: Wanted) -> Iterator[Change]:
        for name in automations:
            if name not in what.automations:
                for each in self._automations[name]:
                    self._delete(f"/automations/{each['id']}")
                yield Change("automation", name, "removed")
        for name in deployments:
            if name not in what.deployments and (found := self._deployment(name)):
                self._delete(f"/deployments/{found['id']}")
                yield Change("deployment", name, "removed")

    def _deployment(self, name: str) -> Plain | None:
        return self._found(f"/deployments/name/{name}")

    def _all_automations(self) -> dict[str, list[Plain]]:
        found: dict[str, list[Plain]] = {}
        for each in self._pages("/automations/filter", {}):
            if each["name"].startswith(TAG):
                found.setdefault(each["name"], []).append(each)
        return found

    def _pages(self, path: str, asked: Plain) -> Iterator[Plain]:
        offset = 0
        while page := self._call("POST", path, {**asked, "limit": PAGE, "offset": offset}):
            yield from page
            offset += len(page)

    def _found(self, path: Any) -> Plain | None:
        import httpx

        try:
            found: Plain = self._client.request("GET", path).json()
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 404:
                return None
            raise
        return found

    def _made(self, path: str, body: Plain) -> bool:
        """Whether we made it; a worker that starts makes its pool as well, and may come first."""
        import httpx

        try:
            self._call("POST", path, body)
        except httpx.HTTPStatusError as error:
            if error.response.status_code == 409:
                return False
            raise
        return True

    def _delete(self, path: str) -> None:
        """It is gone, now or already: the answer to a first try can be lost."""
        import httpx

        try:
            self._call("DELETE", path)
        except httpx.HTTPStatusError as error:
            if error.response.status_code != 404:
                raise

    def _call(self, method: Any, path: Any, body: Plain | None = None) -> Any:
        answer = self._client.request(method, path, json=body)
        return answer.json() if answer.content else None


def as_text(found: dict[str, Any]) -> str:
    """Changes and coming runs for people."""
    lines = [f"  {each['did']:<10} {each['kind']:<11} {each['name']}" for each in found["changes"]]
    for name, times in found["next"].items():
        lines += ["", f"  next runs of {name}", *(f"    {time[:16].replace('T', ' ')} UTC" for time in times)]
    return "\n".join(lines)


def _schema(flow: str) -> Plain:
    """The parameters of a flow as a JSON schema: the server refuses what does not fit."""
    from prefect.utilities.callables import parameter_schema

    return parameter_schema(getattr(importlib.import_module(f"flows.{flow}"), flow)).model_dump(mode="json")


def _template(work: Work) -> Plain:
    """What a pool of processes runs with; those of other types get theirs from their first worker."""
    if work.type != "process":
        return {}
    from prefect.workers.process import ProcessWorker

    return ProcessWorker.get_default_base_job_template()


def _same(key: str, value: Any, found: Plain) -> bool:
    """Whether a deployment has this already, in the server's spelling."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    if key == "concurrency_limit":
        return bool((found.get("global_concurrency_limit") or {}).get("limit") == value)
    if key == "concurrency_options":
        return bool((found.get(key) or {}).get("collision_strategy") == value["collision_strategy"])
    if key == "tags":
        return sorted(found[key]) == sorted(value)
    if key == "schedules":
        mine, theirs = (
            {
                each["slug"]: DeploymentScheduleCreate.model_validate(_asked(each)).model_dump(mode="json")
                for each in side
            }
            for side in (value, found[key])
        )
        return mine == theirs and len(found[key]) == len(value)
    return bool(found.get(key) == value)


def _asked(schedule: Plain) -> Plain:
    return {key: schedule[key] for key in ("slug", "schedule", "active", "parameters")}


def _normal(automation: Plain) -> Plain:
    """An automation as Prefect's own model spells it, without what may be said of a new one only."""
    from prefect.events.schemas.automations import AutomationCore

    spelt = AutomationCore.model_validate({**automation}).model_dump(mode="json", exclude={"owner_resource"})
    return dict(_ordered(spelt))


def _ordered(value: Any) -> Any:
    """What the model holds as sets, in one order: as JSON they are lists, in an order that differs by process."""
    if isinstance(value, dict):
        return {key: sorted(inner) if key in SETS else _ordered(inner) for key, inner in value.items()}
    return [_ordered(inner) for inner in value] if isinstance(value, list) else value
