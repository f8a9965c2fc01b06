"""What `vernal doctor` says of real servers: fit ones, odd ones, and ones that anybody reaches."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.errors import Denied
from infra.local.s3 import LocalS3
from infra.storage import S3Bucket
from infra.storage.behaviour import OPEN, look

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]


def doctor(**environment: str) -> tuple[int, dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "flows", "doctor", "--json"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    return done.returncode, {each["check"]: each["found"] for each in json.loads(done.stdout)}


@pytest.fixture
def keys(s3_server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)


@pytest.fixture
def swift(s3_server: LocalS3, keys: None) -> S3Bucket:
    bucket = S3Bucket("doctor", "", s3_server.endpoint)
    bucket.create()
    return bucket


@contextmanager
def rclone(folder: Path, **environment: str) -> Iterator[S3Bucket]:
    """A server that calls itself S3-compatible and ignores conditions."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    (folder / "doctor").mkdir(parents=True)
    command = [Path(sys.executable).parent / "rclone", "serve", "s3", "--addr", f"127.0.0.1:{port}", "--config", ""]
    server = subprocess.Popen([*command, folder], env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield S3Bucket("doctor", "", f"http://127.0.0.1:{port}")
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def odd(tmp_path: Path, keys: None) -> Iterator[S3Bucket]:
    """It lets in whoever has a key."""
    pair = f"{os.environ['AWS_ACCESS_KEY_ID']},{os.environ['AWS_SECRET_ACCESS_KEY']}"
    with rclone(tmp_path / "served", RCLONE_AUTH_KEY=f'"{pair}"') as bucket:  # one value of a list with commas
        yield bucket


@pytest.fixture
def opened(tmp_path: Path, keys: None) -> Iterator[S3Bucket]:
    """It lets in everybody."""
    with rclone(tmp_path / "served") as bucket:
        yield bucket


def test_swift_does_all_that_is_needed_and_is_no_place_for_locks(swift: S3Bucket) -> None:
    found = look(swift)
    assert found.broken == []
    assert "conditional writes" in found.told[0]
    assert "ignored" not in found.told[0]
    assert found.told[1] == "whether anybody reads without a key is not known (HTTP 400 came)"
    assert list(swift.names()) == [], "nothing of the doctor's is left"


def test_a_store_that_ignores_conditions_is_told_apart(odd: S3Bucket) -> None:
    found = look(odd)
    assert "conditional writes are ignored" in found.told[0]
    assert "ledger" in found.told[0]
    assert OPEN not in found.broken


def test_a_store_that_anybody_reads_is_unfit(opened: S3Bucket) -> None:
    assert look(opened).broken[-1] == OPEN
    code, found = doctor(VERNAL_STORE="s3://doctor/store", VERNAL_S3_ENDPOINT=opened.endpoint)
    assert code == 2
    assert found["behaviour"].startswith(f"E-S3-UNFIT {opened.endpoint}: ")
    assert OPEN in found["behaviour"]


def test_a_wrong_clock_is_named(swift: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    """The requests are signed as a machine two hours behind would, and the server really refuses them."""
    behind = datetime.now(UTC) - timedelta(hours=2)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_, **__: behind.replace(tzinfo=None))
    with pytest.raises(Denied, match=r"^E-CLOCK .*RequestTimeTooSkewed.*time server"):
        look(swift)


def test_the_doctor_says_what_a_server_does_and_what_is_wrong_with_a_key(swift: S3Bucket) -> None:
    stored = {"VERNAL_STORE": "s3://doctor/store", "VERNAL_S3_ENDPOINT": swift.endpoint}
    code, found = doctor(**stored)
    assert code == 0, found
    assert "conditional writes" in found["behaviour"]
    code, found = doctor(**stored, AWS_SECRET_ACCESS_KEY="wrong")
    assert code == 4
    assert found["store"].startswith("E-S3-AUTH")
    assert "clock" in found["store"], "and what to look at"


INSIDE = """
import json, os, subprocess, sys, time, urllib.request

for words in ("link set lo up", "address add ADDRESS/32 dev lo", "route add default dev lo"):
    subprocess.run(["ip", *words.split()], check=True)


def serve(health, *command, **environment):
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen([sys.executable, "-m", *command], env={**os.environ, **environment}, **silent)
    while server.poll() is None:
        try:
            urllib.request.urlopen(health, timeout=5).close()
            return server
        except OSError:
            time.sleep(0.2)


def doctor(**environment):
    command = [sys.executable, "-m", "flows", "doctor", "--json"]
    done = subprocess.run(command, env={**os.environ, **environment}, stdout=subprocess.PIPE)
    return {each["check"]: each["found"] for each in json.loads(done.stdout)}


found = []
"""

PREFECT = """
for login in ("", "vernal:open-sesame"):
    names = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING") if login else ()
    environment = dict.fromkeys(names, login)
    command = ["prefect", "server", "start", "--host", "0.0.0.0", "--port", "4299"]
    server = serve("http://127.0.0.1:4299/api/health", *command, **environment)
    found.append(doctor(**environment))
    if not login:
        found.append(doctor(PREFECT_API_URL="http://ADDRESS:4299/api"))
    server.terminate()
    server.wait()
print(json.dumps(found))
"""

MLFLOW = """
command = ["mlflow", "server", "--host", "0.0.0.0", "--port", "5099", "--workers", "1"]
server = serve("http://127.0.0.1:5099/health", *command)
found += [doctor(), doctor(VERNAL_MLFLOW="http://ADDRESS:5099")]
server.terminate()
server.wait()
print(json.dumps(found))
"""


def alone(script: str, address: str, **environment: str) -> list[dict[str, str]]:
    """What the doctor found in a network of its own, where the machine has this address and nobody else is."""
    apart = ["unshare", "--map-root-user", "--net"]
    if (refused := subprocess.run([*apart, "ip", "link"], capture_output=True, text=True, check=False)).returncode:
        pytest.skip(f"no network of one's own to be had here: {refused.stderr.strip()[-200:]}")
    command = [*apart, sys.executable, "-c", (INSIDE + script).replace("ADDRESS", address)]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=True, timeout=600
    )
    told: list[dict[str, str]] = json.loads(done.stdout)
    return told


def test_a_prefect_server_that_anybody_reaches_is_found(home: Path) -> None:
    (home / "prefect").mkdir(parents=True)
    opened, named, closed = alone(
        PREFECT,
        "10.9.8.7",
        PREFECT_HOME=str(home / "prefect"),
        PREFECT_API_URL="http://127.0.0.1:4299/api",
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
    )
    assert opened["exposure"].startswith("E-EXPOSED http://127.0.0.1:4299/api answers anybody at 10.9.8.7")
    assert "PREFECT_SERVER_API_AUTH_STRING" in opened["exposure"]
    assert named["exposure"].startswith("1 servers; whoever is in the private network of http://10.9.8.7:4299/api")
    assert closed["exposure"] == "1 servers, none open to others"
    assert closed["orchestrator"].startswith("http://127.0.0.1:4299/api, Prefect"), "we have the login"
    assert opened["telemetry"] == closed["telemetry"] == "off"


def test_an_mlflow_server_that_refuses_only_names_is_open_to_anybody(home: Path, tmp_path: Path) -> None:
    """Of the internet's addresses it answers to none, as they stand in a URL; but it takes any name that is told."""
    found, named = alone(
        MLFLOW,
        "9.8.7.6",
        VERNAL_MLFLOW="http://127.0.0.1:5099",
        MLFLOW_BACKEND_STORE_URI=f"sqlite:///{tmp_path}/mlflow.db",
        MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false",
    )
    assert found["exposure"].startswith("E-EXPOSED http://127.0.0.1:5099 answers anybody at 9.8.7.6")
    assert named["exposure"].startswith("E-EXPOSED http://9.8.7.6:5099 answers anybody")
