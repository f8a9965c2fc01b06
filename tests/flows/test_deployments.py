"""What Prefect is told of a recipe, as plain data."""

import asyncio
import json
import uuid
from pathlib import Path
from typing import Any

import pytest

from flows import deployments, events, scheduling
from tasks import recipe
from tasks.errors import BadInput
from tasks.recipe import Recipe

ROOT = Path(__file__).parents[2]

RECIPE = """
name: tiny
task: text-classification
data: {source: rows, label: intent}
model: {base: {architecture: encoder}}
tokens: {tokenizer: {train: bpe}}
"""
TIMED = """
schedule:
  - {cron: "0 3 * * *", timezone: Europe/Berlin, slug: nightly}
  - {interval: 3600, slug: hourly, set: {train.epochs: 6}}
triggers: {poll: 300, debounce: 20, drift: {psi: 0.25}}
work: {pool: box, queue: nights, notify: slack-webhook/on-call}
"""


def read(folder: Path, text: str) -> Recipe:
    (folder / "recipe.yaml").write_text(text)
    return recipe.load(folder / "recipe.yaml")


def test_a_recipe_without_a_clock_can_be_run_and_nothing_else(tmp_path: Path) -> None:
    found = deployments.wanted(read(tmp_path, RECIPE), tmp_path, Path("/srv"))
    assert list(found.deployments) == ["retrain/tiny"]
    assert found.deployments["retrain/tiny"]["schedules"] == []
    assert found.automations == {}


def test_a_scheduled_run_has_the_recipe_as_it_was_scheduled(tmp_path: Path) -> None:
    what = read(tmp_path, RECIPE + TIMED)
    body = deployments.wanted(what, tmp_path, Path("/srv")).deployments["retrain/tiny"]
    assert body["parameters"] == {"recipe": what.content, "beside": str(tmp_path)}
    assert (body["work_pool_name"], body["work_queue_name"]) == ("box", "nights")
    assert body["tags"] == ["vernal", "tiny", "auto-resume"]
    assert body["pull_steps"] == [{"prefect.deployments.steps.set_working_directory": {"directory": "/srv"}}]
    nightly, hourly = body["schedules"]
    assert nightly["schedule"] == {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "day_or": True}
    assert (nightly["slug"], nightly["parameters"]) == ("nightly", {})
    assert hourly["schedule"]["anchor_date"] == "2024-01-01T00:00:00+00:00"
    assert hourly["parameters"]["recipe"]["train"]["epochs"] == 6


def test_many_events_of_new_data_are_one_look_after_the_last_of_them(tmp_path: Path) -> None:
    found = deployments.wanted(read(tmp_path, RECIPE + TIMED), tmp_path, Path("/srv"))
    arrived = found.automations["vernal tiny: data arrived"]
    assert arrived["trigger"]["expect"] == [events.DATA_ARRIVED]
    assert arrived["trigger"]["match"] == {"prefect.resource.id": ["vernal.model.tiny"]}
    assert arrived["trigger"]["within"] == arrived["actions"][0]["schedule_after"] == 20
    assert arrived["actions"][0]["deployment"] == "sensor/tiny"
    drifted = found.automations["vernal tiny: drift found"]
    assert (drifted["trigger"]["within"], drifted["actions"][0]["schedule_after"]) == (20, 0)
    assert set(found.automations) == {
        f"vernal tiny: {each}" for each in ("data arrived", "drift found", "failed or refused")
    }
    assert [each["slug"] for each in found.deployments["sensor/tiny"]["schedules"]] == ["poll"]


def test_containers_get_their_image_and_no_folder_of_this_machine(tmp_path: Path) -> None:
    what = read(tmp_path, RECIPE + "work: {type: kubernetes, pool: cluster, image: vernal:1}\n")
    body = deployments.wanted(what, tmp_path, Path("/srv")).deployments["retrain/tiny"]
    assert body["job_variables"]["image"] == "vernal:1"
    assert "/srv" not in str(body)


def test_a_cluster_gives_its_gpus_to_what_trains_alone(tmp_path: Path) -> None:
    what = read(tmp_path, RECIPE + "work: {type: kubernetes, pool: cluster, image: vernal:1}\ntriggers: {poll: 60}\n")
    found = deployments.wanted(what, tmp_path, tmp_path).deployments
    found |= deployments.shared(what.work, tmp_path).deployments
    gpus = {name: body["job_variables"].get("gpus") for name, body in found.items()}
    assert gpus == {"retrain/tiny": None, "sensor/tiny": "0", "rollout/vernal": "0", "reconcile/vernal": "0"}
    template = json.loads((ROOT / "infra" / "kubernetes" / "job-template.json").read_text())
    assert deployments.SMALL.keys() <= template["variables"]["properties"].keys()


def test_a_container_has_the_settings_of_its_pools_template_and_none_of_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prefect.client.schemas import FlowRun
    from prefect.workers.base import BaseJobConfiguration

    monkeypatch.setenv("AWS_DEFAULT_REGION", "of-the-worker")
    what = read(tmp_path, RECIPE + "work: {type: docker, pool: ours, image: vernal:1}\n")
    values = deployments.wanted(what, tmp_path, Path("/srv")).deployments["retrain/tiny"]["job_variables"]
    env = {"default": {"VERNAL_STORE": "s3://of/the/pool"}}
    template = {"job_configuration": {"env": "{{ env }}"}, "variables": {"properties": {"env": env}}}
    no_server: Any = None
    job = asyncio.run(BaseJobConfiguration.from_template_and_values(template, values, client=no_server))
    job.prepare_for_flow_run(FlowRun(flow_id=uuid.uuid4()))
    assert job.env["VERNAL_STORE"] == "s3://of/the/pool"
    assert values["env"].items() <= job.env.items()
    assert "AWS_DEFAULT_REGION" not in job.env


def test_only_our_own_silent_runs_are_dead(tmp_path: Path) -> None:
    found = deployments.shared(recipe.Work(), tmp_path).automations["vernal: silent runs are dead"]
    assert found["trigger"]["match_related"]["prefect.resource.id"] == ["prefect.tag.vernal"]
    assert (found["trigger"]["posture"], found["trigger"]["within"]) == ("Proactive", 90)


def test_an_automation_that_names_its_events_in_another_order_is_the_same(tmp_path: Path) -> None:
    body = deployments.shared(recipe.Work(), tmp_path).automations["vernal: crashed runs go on"]
    action = {"type": "run-deployment", "source": "selected", "deployment_id": str(uuid.uuid4()), "parameters": {}}
    known = {**body, "name": "x", "enabled": True, "tags": ["vernal"], "actions": [action]}
    turned = {**known, "trigger": {**body["trigger"], "expect": body["trigger"]["expect"][::-1]}}
    assert len(body["trigger"]["expect"]) == 4
    assert scheduling._normal(known) == scheduling._normal(turned)
    assert scheduling._normal(known)["trigger"]["expect"] == sorted(body["trigger"]["expect"])


def test_an_event_keeps_its_id_when_it_is_told_again() -> None:
    first, again, other = (events.written(events.PROMOTED, "tiny", {"version": 1}, key) for key in ("7", "7", "8"))
    assert first["id"] == again["id"] != other["id"]
    assert first["resource"] == {"prefect.resource.id": "vernal.model.tiny", "prefect.resource.name": "tiny"}


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        ("vernal.promoted", "{}"),
        (events.DATA_ARRIVED, "[]"),
        (events.DATA_ARRIVED, "{"),
        (events.DRIFT_FOUND, "{}"),
        (events.DRIFT_FOUND, '{"psi": "much"}'),
        (events.DECAY_FOUND, '{"value": 0.4}'),
        (events.DRIFT_FOUND, '{"psi": "0.3"}'),
        (events.DRIFT_FOUND, '{"psi": true}'),
        (events.DECAY_FOUND, '{"metric": "macro_f1", "value": false}'),
        (events.DRIFT_FOUND, '{"psi": NaN}'),
        (events.DRIFT_FOUND, '{"psi": -Infinity}'),
        (events.DRIFT_FOUND, '{"psi": 1e999}'),
        (events.DRIFT_FOUND, '{"psi": 0.3, "by": {"length": [0.1, NaN]}}'),
        (events.DATA_ARRIVED, '{"rows": [1e999]}'),
        (events.DATA_ARRIVED, r'{"name": "\ud800"}'),
        (events.DATA_ARRIVED, '{"in":' * 100_000),
    ],
    ids=lambda given: given[:40],
)
def test_what_nobody_outside_may_tell_is_refused(event: str, payload: str) -> None:
    with pytest.raises(BadInput) as refused:
        events.checked(event, payload)
    assert refused.value.code == "E-EVENT"


def test_what_is_told_from_outside_is_taken() -> None:
    told: dict[str, Any] = events.checked(events.DECAY_FOUND, '{"metric": "macro_f1", "value": 0, "rows": 9}')
    assert told == {"metric": "macro_f1", "value": 0, "rows": 9}


def test_an_event_where_no_server_is_configured_goes_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.setattr("flows.orchestrator.there", lambda: "")
    events.emit(events.PROMOTED, "tiny", {}, "1")
