"""The store on a real S3 server: the same contract as in a folder, large files, and a wire that cuts, lies or dies."""

import hashlib
import itertools
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.errors import Corrupt, Denied, Missing, Unreachable
from infra.local.s3 import LocalS3
from infra.storage import S3Bucket, Store, open_store
from tests.faults.proxy import DOWN, UP, Direction, Proxy
from tests.infra.store_contract import ABC, BucketContract, StoreContract

pytestmark = pytest.mark.services

MB = 1_000_000
numbers = itertools.count()


@pytest.fixture(autouse=True)
def _credentials(s3_server: LocalS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)


@pytest.fixture
def bucket(s3_server: LocalS3) -> S3Bucket:
    """An empty place on the server."""
    made = S3Bucket("store", f"test-{next(numbers)}", s3_server.endpoint)
    made.create()
    return made


@pytest.fixture
def wire(s3_server: LocalS3) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", s3_server.port) as proxy:
        yield proxy


@pytest.fixture
def wired(bucket: S3Bucket, wire: Proxy) -> S3Bucket:
    """The same place, reached over the proxy."""
    return S3Bucket(bucket.bucket, bucket.prefix.rstrip("/"), f"http://{wire.address}")


class TestS3Bucket(BucketContract):
    pass


class TestStoreInS3(StoreContract):
    pass


def uploads(bucket: S3Bucket) -> list[Any]:
    """Multipart uploads that were begun below this place and neither completed nor aborted."""
    found = bucket._client.list_multipart_uploads(Bucket=bucket.bucket, Prefix=bucket.prefix)
    return list(found.get("Uploads", []))


def test_a_large_file_comes_back_bit_for_bit(bucket: S3Bucket, tmp_path: Path) -> None:
    with (tmp_path / "model").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MB))
    store = Store(bucket, tmp_path / "cache")
    stored = store.put(tmp_path / "model")
    assert stored.size == 200 * MB
    with store.open(stored.digest).open("rb") as file:
        assert hashlib.file_digest(file, "sha256").hexdigest() == stored.digest[7:]
    assert uploads(bucket) == []


def test_a_listing_goes_over_its_pages_and_tells_what_changed(
    bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        bucket.write(f"part-{number}", b"abc")
    whole = list(bucket.listing("part-"))
    assert [found.name for found in whole] == [f"part-{number}" for number in range(7)]
    assert {found.size for found in whole} == {3}
    assert {found.etag for found in whole} == {hashlib.md5(b"abc").hexdigest()}

    client, pages = bucket._client, []

    def by_threes(**arguments: Any) -> Any:
        pages.append(arguments)
        return client.__class__.list_objects_v2(client, MaxKeys=3, **arguments)

    monkeypatch.setattr(client, "list_objects_v2", by_threes)
    assert list(bucket.listing("part-")) == whole
    assert len(pages) == 3
    bucket.write("part-3", b"abd")
    changed = [now.name for before, now in zip(whole, bucket.listing("part-"), strict=True) if before != now]
    assert changed == ["part-3"]


def test_a_listing_shows_foreign_names_and_leaves_out_empty_folders(bucket: S3Bucket) -> None:
    for key in ("my file (1).csv", "folder/"):
        bucket._client.put_object(Bucket=bucket.bucket, Key=bucket.prefix + key, Body=b"")
    assert [found.name for found in bucket.listing()] == ["my file (1).csv"]


@pytest.mark.parametrize("variable", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_credentials_are_denied_and_never_repeated(
    bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setenv(variable, "wrong-hunter2")
    stranger = S3Bucket("store", "x", bucket.endpoint)
    for attempt in (
        lambda: stranger.read("name"),
        lambda: stranger.size("name"),
        lambda: stranger.write("name", b""),
        lambda: stranger.fetch("name", tmp_path / "file"),
        lambda: stranger.delete("name"),
        lambda: list(stranger.names()),
    ):
        with pytest.raises(Denied, match=f"E-S3-AUTH s3://store/.* at {bucket.endpoint}") as denied:
            attempt()
        assert "hunter2" not in str(denied.value)


def test_a_bucket_that_is_not_there_is_named(bucket: S3Bucket, tmp_path: Path) -> None:
    store = open_store("s3://no-such-bucket/x", tmp_path, bucket.endpoint)
    for attempt in (
        lambda: store.bucket.read("name"),
        lambda: store.bucket.write("name", b""),
        lambda: store.has(ABC),
        lambda: store.put(b"abc"),
        lambda: store.read_manifest("key"),
        lambda: list(store.manifests()),
    ):
        with pytest.raises(Missing, match="E-S3-BUCKET no bucket no-such-bucket at "):
            attempt()


def test_creating_a_bucket_twice_is_creating_it_once(bucket: S3Bucket) -> None:
    bucket.write("name", b"abc")
    S3Bucket(bucket.bucket, "", bucket.endpoint).create()
    assert bucket.read("name") == b"abc"


def test_a_server_that_is_not_there_is_unreachable_soon(bucket: S3Bucket, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    store = open_store("s3://store/x", tmp_path, f"http://127.0.0.1:{port}")
    begun = time.monotonic()
    with pytest.raises(Unreachable, match=f"E-S3-UNAVAILABLE s3://store/x/.* at http://127.0.0.1:{port}"):
        store.put(b"abc")
    assert time.monotonic() - begun < 40


def test_a_server_that_comes_back_was_never_missed(wire: Proxy, wired: S3Bucket) -> None:
    wire.refuse(times=2)
    wired.write("name", b"abc")
    assert wire.wounds == 2
    wire.refuse(times=2)
    assert wired.read("name") == b"abc"


@pytest.mark.parametrize("cut", ["reset_after", "close_after"])
@pytest.mark.parametrize("share", [0.01, 0.4, 0.999])
def test_a_download_that_is_cut_goes_on(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path, cut: str, share: float
) -> None:
    data = os.urandom(5 * MB)
    bucket.write("name", data)
    getattr(wire, cut)(DOWN, int(5 * MB * share), times=1)
    wired.fetch("name", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    assert wire.wounds == 1


def test_a_download_that_is_always_cut_gets_through_piece_by_piece(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket
) -> None:
    data = os.urandom(5 * MB)
    bucket.write("name", data)
    wire.close_after(DOWN, int(1.5 * MB))
    assert wired.read("name") == data
    assert wire.wounds == 3


def test_a_download_that_never_gets_through_is_unreachable_and_leaves_nothing(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path
) -> None:
    bucket.write("name", os.urandom(5 * MB))
    wire.close_after(DOWN, 100_000)
    with pytest.raises(Unreachable, match="E-S3-UNAVAILABLE"):
        wired.fetch("name", tmp_path / "folder" / "file")
    assert wire.wounds == 5
    assert list((tmp_path / "folder").iterdir()) == []


def test_an_object_replaced_between_two_cuts_is_never_mixed(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket.write("name", b"a" * 5 * MB)
    wire.close_after(DOWN, 2 * MB, times=1)

    def meanwhile(tried: int) -> float:
        bucket.write("name", b"b" * 5 * MB)
        return 0

    monkeypatch.setattr("infra.storage.s3._pause", meanwhile)
    with pytest.raises(Unreachable, match="PreconditionFailed"):
        wired.read("name")
    assert wired.read("name") == b"b" * 5 * MB


def test_a_server_that_sends_everything_again_is_not_appended(
    wire: Proxy, wired: S3Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(5 * MB)
    wired.write("name", data)
    client = wired._client
    get = client.get_object
    monkeypatch.setattr(client, "get_object", lambda Range=None, **arguments: get(**arguments))
    wire.close_after(DOWN, 2 * MB, times=1)
    assert wired.read("name") == data


def test_a_manifest_that_arrives_damaged_is_read_again(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path
) -> None:
    body = {"text": "x" * 100_000}
    Store(bucket, tmp_path / "other").write_manifest("key", body)
    store = Store(wired, tmp_path / "cache")
    wire.flip(DOWN, 50_000, times=1)
    assert store.read_manifest("key") == body
    assert wire.wounds == 1
    wire.flip(DOWN, 50_000)
    with pytest.raises(Corrupt, match="E-MANIFEST"):
        store.read_manifest("key")


@pytest.mark.parametrize("offset", [2_000, 500_000, 999_999])
def test_a_bit_flipped_on_the_way_down_is_found_and_fetched_again(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path, offset: int
) -> None:
    data = os.urandom(MB)
    digest = Store(bucket, tmp_path / "other").put(data).digest
    store = Store(wired, tmp_path / "cache")
    wire.flip(DOWN, offset, times=1)
    assert store.read(digest) == data
    assert wire.wounds == 1


def test_a_wire_that_always_flips_a_bit_down_yields_no_bytes(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path
) -> None:
    digest = Store(bucket, tmp_path / "other").put(os.urandom(MB)).digest
    store = Store(wired, tmp_path / "cache")
    wire.flip(DOWN, 500_000)
    with pytest.raises(Corrupt, match=f"E-INTEGRITY .*{digest[7:]} holds sha256:"):
        store.open(digest)
    assert wire.wounds == 2
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_flipped_bit_on_the_way_up_is_refused_and_sent_again(wire: Proxy, wired: S3Bucket, bucket: S3Bucket) -> None:
    data = os.urandom(MB)
    wire.flip(UP, 500_000, times=1)
    wired.write("name", data)
    assert wire.wounds == 1
    assert bucket.read("name") == data


def test_a_flipped_bit_in_a_part_of_a_large_file_is_refused_and_sent_again(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path
) -> None:
    data = os.urandom(80 * MB)
    (tmp_path / "file").write_bytes(data)
    wire.flip(UP, 9 * MB, times=4)
    wired.write("name", tmp_path / "file")
    assert wire.wounds == 4
    assert bucket.read("name") == data


def test_a_copy_damaged_in_the_cache_is_fetched_again(bucket: S3Bucket, tmp_path: Path) -> None:
    store = Store(bucket, tmp_path / "cache")
    store.put(b"abc")
    copy = store.open(ABC)
    copy.chmod(0o644)
    copy.write_bytes(b"abd")
    assert store.read(ABC) == b"abc"
    assert os.listdir(tmp_path / "cache") == [ABC[7:]]


def test_a_copy_in_the_cache_needs_no_server(wire: Proxy, wired: S3Bucket, tmp_path: Path) -> None:
    store = Store(wired, tmp_path / "cache")
    store.put(b"abc")
    store.open(ABC)
    wire.refuse()
    assert store.read(ABC) == b"abc"
    assert wire.wounds == 0


@pytest.mark.parametrize("way", [UP, DOWN])
def test_an_upload_that_is_cut_is_sent_again(wire: Proxy, wired: S3Bucket, bucket: S3Bucket, way: Direction) -> None:
    data = os.urandom(2 * MB)
    wire.reset_after(way, 1_000_000 if way == UP else 1, times=2)
    wired.write("name", data)
    assert wire.wounds == 2
    assert bucket.read("name") == data


@pytest.mark.parametrize("lost", range(3), ids=["size", "bucket", "put"])
def test_an_answer_that_is_lost_changes_nothing(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path, lost: int
) -> None:
    wire.drop_response(skip=lost, times=1)
    Store(wired, tmp_path / "cache").put(b"abc")
    assert wire.wounds == 1
    assert Store(bucket, tmp_path / "other").read(ABC) == b"abc"


@pytest.mark.parametrize(("lost", "orphans"), [(0, 1), (3, 0), (6, 0)], ids=["begin", "part", "complete"])
def test_an_answer_that_is_lost_in_a_large_upload_costs_at_most_an_empty_one(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path, lost: int, orphans: int
) -> None:
    data = os.urandom(70 * MB)
    (tmp_path / "file").write_bytes(data)
    wire.drop_response(skip=lost, times=1)
    wired.write("name", tmp_path / "file")
    assert wire.wounds == 1
    assert bucket.read("name") == data
    assert len(uploads(bucket)) == orphans


def test_a_server_that_forgets_what_it_completed_is_believed_by_the_object(
    bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Swift answers a repeated completion with success; others with NoSuchUpload, as here from the second on."""
    data = os.urandom(70 * MB)
    (tmp_path / "file").write_bytes(data)
    client = bucket._client
    complete = client.complete_multipart_upload

    def answer_lost(**arguments: Any) -> Any:
        complete(**arguments)
        return complete(**arguments | {"UploadId": "forgotten"})

    monkeypatch.setattr(client, "complete_multipart_upload", answer_lost)
    bucket.write("name", tmp_path / "file")
    assert bucket.read("name") == data
    monkeypatch.setattr(client, "complete_multipart_upload", lambda **it: complete(**it | {"UploadId": "forgotten"}))
    with pytest.raises(Missing):
        bucket.write("other", tmp_path / "file")
    assert uploads(bucket) == []


def test_a_failed_upload_of_a_large_file_leaves_no_parts_behind(
    wire: Proxy, wired: S3Bucket, bucket: S3Bucket, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(bytes(80 * MB))
    wire.reset_after(UP, 1_000_000)
    with pytest.raises(Unreachable, match="E-S3-UNAVAILABLE"):
        wired.write("name", tmp_path / "file")
    assert wire.wounds > 5
    assert bucket.size("name") is None
    assert uploads(bucket) == []


def test_uploads_that_were_left_half_made_are_swept_once_they_are_old(bucket: S3Bucket) -> None:
    neighbour = bucket.within("neighbour")
    for place in (bucket, neighbour):
        place._call("create_multipart_upload", Key=place.prefix + "model")
    assert (bucket.sweep(86_400), len(uploads(bucket))) == ([], 2)
    assert neighbour.sweep(-60) == ["model"]
    assert bucket.sweep(-60) == ["model"]
    assert uploads(bucket) == []
    assert bucket.sweep(-60) == []


def test_a_slow_wire_is_only_slow(wire: Proxy, wired: S3Bucket) -> None:
    wire.latency(0.3)
    wired.write("name", b"abc")
    assert wired.read("name") == b"abc"
