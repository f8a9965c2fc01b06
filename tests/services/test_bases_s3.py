"""A base in S3 is the base that it is on disk: a folder, one object of safetensors, or a state dict."""

from pathlib import Path

import boto3
import pytest
import torch

from infra.local.s3 import LocalS3
from infra.settings import settings
from tasks import stages
from tests import makers
from tests.tasks.model.test_loaders import laid_out, loaded, packaged

pytestmark = pytest.mark.services


@pytest.fixture
def made(home: Path) -> makers.Made:
    """A small trained model."""
    return makers.made(home, makers.recipe())


def test_a_base_in_s3_gives_the_logits_that_it_gives_on_disk(
    made: makers.Made, s3_server: LocalS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = laid_out(made, tmp_path)
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
    for path in folder.iterdir():
        client.upload_file(str(path), "bases", f"bundle/{path.name}")
    for name in ("bundle", "s3://bases/bundle", "s3://bases/bundle/model.safetensors", "s3://bases/bundle/mine.pt"):
        assert torch.equal(loaded(name, made, tmp_path), packaged(folder)), name
