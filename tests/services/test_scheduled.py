"""A scheduled run on the whole stack: fired by its own clock, run by the worker, kept, registered, live, rolled out."""

import json
from hashlib import sha256
from pathlib import Path

import httpx
import pytest

from flows.plan import VERBS
from infra.ledger import Ledger
from infra.storage import S3Bucket
from tests.services.conftest import Vernal, run_on
from tests.services.scheduled import Scheduled

pytestmark = pytest.mark.services


@pytest.fixture
def bucket(ran: Scheduled, monkeypatch: pytest.MonkeyPatch) -> S3Bucket:
    """All that stands in the stack's S3 server."""
    values = ran.stack.environment
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, values[name])
    return S3Bucket("vernal", "", values["VERNAL_S3_ENDPOINT"])


def test_the_server_fires_the_run_by_its_clock_and_the_worker_runs_it_to_the_end(ran: Scheduled) -> None:
    assert (ran.run["auto_scheduled"], ran.run["created_by"]["type"]) == (True, "SCHEDULE")
    assert (ran.run["work_pool_name"], ran.run["infrastructure_pid"] is not None) == ("local", True)
    assert (ran.run["state_type"], ran.run["state_name"]) == ("COMPLETED", "Promoted")
    assert [run["id"] for run in ran.prefect.runs("retrain/quickstart") if run["start_time"]] == [ran.run["id"]]


def test_every_stage_is_in_s3_and_another_command_finds_all_of_them_there(ran: Scheduled, bucket: S3Bucket) -> None:
    assert {name.split("/")[2] for name in bucket.names("store/manifests")} == {*VERBS, "page", "record"}
    blobs = list(bucket.names("store/blobs"))
    assert [name for name in blobs if sha256(bucket.read(name)).hexdigest() != name.split("/")[-1]] == []
    assert all(stage["reused"] for stage in ran.first["stages"].values())
    assert {"model", "report"} <= {name.split("/")[4] for name in bucket.names("mlflow")}


def test_mlflow_names_version_1_champion_and_says_that_it_is_deployable(ran: Scheduled) -> None:
    asked = {"name": "quickstart", "alias": "champion"}
    url = f"{ran.stack.environment['VERNAL_MLFLOW']}/api/2.0/mlflow/registered-models/alias"
    found = httpx.get(url, params=asked, timeout=60).json()["model_version"]
    tags = {tag["key"]: tag["value"] for tag in found["tags"]}
    assert (found["version"], found["status"]) == ("1", "READY")
    assert tags["vernal.deployable"].startswith("decision ")
    assert (ran.first["version"], ran.first["champion"], ran.first["verdict"]["promoted"]) == (1, 1, True)


def test_the_promotion_is_an_event_and_the_event_starts_the_rollout(ran: Scheduled) -> None:
    promoted, refused = ran.prefect.events("vernal.promoted"), ran.prefect.events("vernal.refused")
    assert [event["payload"]["version"] for event in promoted] == [1]
    assert [event["payload"]["version"] for event in refused] == [2]
    ledger = Ledger(ran.stack.environment["VERNAL_LEDGER"])
    decided = ledger.live("quickstart")
    assert decided
    assert (decided.version, decided.id) == (1, promoted[0]["payload"]["decision"])
    assert ran.rollout["created_by"]["type"] == "AUTOMATION"
    assert (ran.rollout["state_type"], ran.rollout["state_name"]) == ("COMPLETED", "Deployable")
    assert [mark.decision for mark in ledger.rollouts("quickstart")] == [decided.id]
    assert [event["payload"]["version"] for event in ran.prefect.events("vernal.deployable")] == [1]


def test_who_is_on_call_hears_of_the_refusal_alone(ran: Scheduled) -> None:
    (told,) = ran.heard
    assert json.loads(told)["title"] == "quickstart: vernal.refused"


def test_the_same_recipe_embedded_trains_the_same_weights(ran: Scheduled, tmp_path: Path) -> None:
    done = run_on(tmp_path / "elsewhere", "run", str(ran.recipe), "--json")
    assert done.returncode == 0, done.stderr
    embedded = json.loads(done.stdout)
    assert not any(stage["reused"] for stage in embedded["stages"].values())
    assert embedded["stages"]["finetune"]["digest"] == ran.first["stages"]["finetune"]["digest"]
    assert embedded["run_key"] == ran.first["run_key"]


def test_removing_the_recipe_leaves_nothing_of_it_in_prefect(ran: Scheduled, vernal: Vernal) -> None:
    made = {(each["kind"], each["name"]) for each in ran.created["changes"] if each["did"] == "created"}
    done = vernal("schedule", "--remove", str(ran.recipe), "--json")
    assert done.returncode == 0, done.stderr
    gone = {(each["kind"], each["name"]) for each in json.loads(done.stdout)["changes"] if each["did"] == "removed"}
    assert gone == {each for each in made if each[0] not in ("pool", "limit")}
    assert ran.prefect.ask("POST", "deployments/filter") == ran.prefect.ask("POST", "automations/filter") == []
    coming = {"state": {"type": {"any_": ["SCHEDULED", "PENDING"]}}}
    assert ran.prefect.ask("POST", "flow_runs/filter", flow_runs=coming) == []
