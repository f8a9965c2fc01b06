"""The whole stack through its commands: real servers come up, heal, go down, and come back with what they kept."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text

from infra.local import processes, supervisor
from infra.local.parts import NAMES
from infra.local.stack import Stack
from infra.storage import S3Bucket
from tests.services.conftest import Vernal

pytestmark = pytest.mark.services


def until(true: Callable[[], object], patience: float = 240.0) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.2)


def parts_of(stack: Stack) -> dict[str, dict[str, Any]]:
    return {part["name"]: part for part in stack.status()}


def pids_of(stack: Stack) -> dict[str, list[int]]:
    return {name: part["pids"] for name, part in parts_of(stack).items()}


def prefect(stack: Stack, method: str, path: str, **body: Any) -> Any:
    values = stack.environment
    credentials = tuple(values["PREFECT_API_AUTH_STRING"].split(":", 1))
    url = f"{values['PREFECT_API_URL']}/{path}"
    answer = httpx.request(method, url, auth=credentials, json=body or None, timeout=30)
    answer.raise_for_status()
    return answer.json() if answer.content else None


def healthy(stack: Stack) -> None:
    """Each part does what it is for, asked at its own door."""
    values = stack.environment
    with create_engine(values["VERNAL_LEDGER"].replace("postgresql:", "postgresql+psycopg2:")).connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    bucket_of(stack).write("asked", b"yes")
    assert bucket_of(stack).read("asked") == b"yes"
    assert prefect(stack, "GET", "health") is True
    assert httpx.get(f"{values['VERNAL_MLFLOW']}/health", timeout=30).text == "OK"
    pool = prefect(stack, "GET", "work_pools/local")
    assert (pool["type"], pool["status"], pool["is_paused"]) == ("process", "READY", False)


def bucket_of(stack: Stack) -> S3Bucket:
    return S3Bucket("vernal", "tests", stack.environment["VERNAL_S3_ENDPOINT"])


@pytest.fixture(autouse=True)
def keys(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, stack.environment[name])


def test_every_part_runs_and_answers(stack: Stack, vernal: Vernal) -> None:
    told = json.loads(vernal("status", "--json").stdout)
    assert told["state"] == "up"
    found = {part["name"]: part for part in told["parts"]}
    assert tuple(found) == NAMES
    assert {part["state"] for part in found.values()} == {"running"}
    assert all(part["memory"] > 10 << 20 and part["pids"] and part["restarts"] == 0 for part in found.values())
    healthy(stack)
    table = vernal("status")
    print(table.stdout)
    assert table.returncode == 0


def test_another_up_is_the_same_start(stack: Stack, vernal: Vernal) -> None:
    before = pids_of(stack)
    assert vernal("up").returncode == 0
    assert pids_of(stack) == before


def test_doctor_finds_the_stack_fit_and_commands_use_it(stack: Stack, vernal: Vernal) -> None:
    doctor = vernal("doctor", "--json")
    assert doctor.returncode == 0, doctor.stdout
    found = {each["check"]: each["found"] for each in json.loads(doctor.stdout)}
    assert found["store"].startswith("s3://vernal/store")
    assert found["tracking"] == stack.environment["VERNAL_MLFLOW"]
    assert found["orchestrator"].startswith(stack.environment["PREFECT_API_URL"])


def test_prefect_lets_nobody_in_without_its_password(stack: Stack) -> None:
    api = stack.environment["PREFECT_API_URL"]
    assert httpx.post(f"{api}/deployments/filter", json={}, timeout=30).status_code == 401
    assert httpx.get(api.replace("/api", "/ui-settings"), timeout=30).json()["auth"] == "BASIC", "its pages ask for it"


def test_only_this_machine_can_reach_it(stack: Stack) -> None:
    ours = set(json.loads((stack.home / "ports.json").read_text()).values())
    listening = [
        line.split()[1].rsplit(":", 1)
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A"
    ]
    assert {address for address, port in listening if int(port, 16) in ours} == {"0100007F"}


def test_secrets_stand_in_private_files_alone(stack: Stack) -> None:
    values = stack.environment
    password = values["VERNAL_LEDGER"].split(":")[2].partition("@")[0]
    secrets = [password, values["AWS_SECRET_ACCESS_KEY"], values["PREFECT_API_AUTH_STRING"].split(":")[1]]
    assert (stack.file.stat().st_mode & 0o777) == 0o600
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
    open_to_others = [
        path.read_bytes()
        for path in stack.home.rglob("*")
        if path.is_file() and path.stat().st_mode & 0o077 and "environment" not in path.relative_to(stack.home).parts
    ]
    logs = [path.read_bytes() for path in (stack.home / "log").rglob("*.log")]
    assert logs
    assert not [
        secret for secret in secrets for found in (*commands, *open_to_others, *logs) if secret.encode() in found
    ]


@pytest.mark.parametrize("name", ["postgres", "s3", "mlflow"])
def test_a_part_that_is_killed_comes_back_at_its_address(stack: Stack, name: str) -> None:
    before = parts_of(stack)
    os.kill(before[name]["pids"][0], signal.SIGKILL)
    until(lambda: (part := parts_of(stack)[name])["restarts"] == 1 and part["state"] == "running")
    after = parts_of(stack)
    print(f"{name} came back in {after[name]['seconds']} s")
    assert after[name]["address"] == before[name]["address"]
    assert after[name]["pids"] != before[name]["pids"]
    until(lambda: prefect(stack, "GET", "work_pools/local")["status"] == "READY")
    healthy(stack)


def test_what_a_killed_supervisor_left_is_taken_over(stack: Stack, vernal: Vernal) -> None:
    before = pids_of(stack)
    os.kill(supervisor.watching(stack.home / "supervisor"), signal.SIGKILL)
    until(lambda: not stack.watched)
    lost = vernal("doctor")
    assert (lost.returncode, lost.stderr.split()[0]) == (4, "E-STACK-DOWN")
    assert {part["state"] for part in parts_of(stack).values()} == {"unwatched"}
    assert vernal("up").returncode == 0
    assert pids_of(stack) == before


def test_down_ends_all_and_up_finds_everything_again(stack: Stack, vernal: Vernal) -> None:
    bucket_of(stack).write("kept", b"bytes")
    prefect(stack, "POST", "variables/", name="kept", value="of Prefect")
    before = stack.environment
    ended = vernal("down")
    assert ended.returncode == 0, ended.stderr
    assert not stack.file.exists()
    assert processes.marked(str(stack.home)) == []
    assert vernal("doctor", "--json").returncode == 0, "embedded again"

    again = vernal("up")
    print(again.stdout)
    assert again.returncode == 0, again.stderr
    assert stack.environment == before, "addresses and passwords are those of the last time"
    assert bucket_of(stack).read("kept") == b"bytes"
    assert prefect(stack, "GET", "variables/name/kept")["value"] == "of Prefect"
    healthy(stack)
