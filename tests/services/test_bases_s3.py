"""A base in S3 is the base that it is on disk: a folder, one object of safetensors, or a state dict."""

from pathlib import Path

import boto3
import pytest
import torch
from transformers import BertForMaskedLM

from infra.local.s3 import LocalS3
from infra.settings import settings
from tasks import stages
from tasks.model.load import load
from tests.tasks.model.test_load import base, bert, logits

__all__ = ["bert"]  # the fixture

pytestmark = pytest.mark.services


def test_a_base_in_s3_gives_the_logits_that_it_gives_on_disk(
    bert: Path, s3_server: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = logits(load.fn(base("bert"), str(bert.parent)), tmp_path)
    torch.save(BertForMaskedLM.from_pretrained(bert).state_dict(), bert / "mine.pt")
    for name, value in {
        "AWS_ACCESS_KEY_ID": s3_server.access_key,
        "AWS_SECRET_ACCESS_KEY": s3_server.secret_key,
        "AWS_DEFAULT_REGION": "us-east-1",
        "VERNAL_S3_ENDPOINT": s3_server.endpoint,
    }.items():
        monkeypatch.setenv(name, value)
    settings.cache_clear()
    stages.artifacts.cache_clear()
    client = boto3.client("s3", endpoint_url=s3_server.endpoint)
    client.create_bucket(Bucket="bases")
    for path in bert.iterdir():
        client.upload_file(str(path), "bases", f"bert/{path.name}")
    for name in ("bert", "bert/model.safetensors", "bert/mine.pt"):
        assert torch.equal(logits(load.fn(base(f"s3://bases/{name}"), str(tmp_path)), tmp_path), expected)
