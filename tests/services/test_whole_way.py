"""The whole way on real servers: artifacts in S3, ledger in PostgreSQL, a Prefect server that stays."""

import json
import os
import subprocess
import sys
from pathlib import Path

import boto3
import pytest

from infra.local.prefect import LocalPrefect
from infra.local.s3 import LocalS3

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
SHRUNK = ["train.epochs=2", "model.base.num_layers=1", "model.base.d_model=32", "gate.floors={}"]


def vernal(*arguments: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_whole_way_runs_on_s3_postgres_and_a_prefect_server(
    s3_server: LocalS3, postgres_url: str, home: Path
) -> None:
    keys = {"AWS_ACCESS_KEY_ID": s3_server.access_key, "AWS_SECRET_ACCESS_KEY": s3_server.secret_key}
    client = boto3.client(
        "s3",
        endpoint_url=s3_server.endpoint,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
        region_name="us-east-1",
    )
    client.create_bucket(Bucket="vernal")
    client.upload_file(str(ROOT / "flows/recipes/customer_messages.jsonl"), "vernal", "tickets/messages.jsonl")
    changes = [part for change in [*SHRUNK, "data.source=s3://vernal/tickets"] for part in ("--set", change)]
    command = ["run", "flows/recipes/quickstart.yaml", *changes, "--json"]
    with LocalPrefect() as prefect:
        environment = {
            **keys,
            "VERNAL_STORE": "s3://vernal/store",
            "VERNAL_S3_ENDPOINT": s3_server.endpoint,
            "VERNAL_LEDGER": postgres_url,
            "PREFECT_API_URL": prefect.wait(),
        }
        code, printed, told = vernal(*command, **environment)
        assert code == 0, told
        ran = json.loads(printed)
        assert (ran["version"], ran["champion"]) == (1, 1)
        assert not any(stage["reused"] for stage in ran["stages"].values())

        elsewhere = {**environment, "VERNAL_HOME": str(home / "another-machine")}
        code, printed, told = vernal(*command, **elsewhere)
        assert code == 0, told
        again = json.loads(printed)
        assert all(stage["reused"] for stage in again["stages"].values()), "another machine reuses what is in the store"
        assert {verb: stage["digest"] for verb, stage in again["stages"].items()} == {
            verb: stage["digest"] for verb, stage in ran["stages"].items()
        }
    code, _, told = vernal(
        "check", "flows/recipes/quickstart.yaml", *changes, **{**environment, "AWS_SECRET_ACCESS_KEY": "not-the-secret"}
    )
    assert code == 4
    assert told.startswith("E-S3-AUTH")
    assert "not-the-secret" not in told
