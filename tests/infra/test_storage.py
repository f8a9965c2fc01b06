"""The store in a folder: the contract, damage on disk, kills in the middle, a full disk, addresses."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from infra.errors import Coded, Corrupt, Missing
from infra.storage import FolderBucket, S3Bucket, Store, files, open_store
from tests.infra.store_contract import ABC, BucketContract, StoreContract

ROOT = Path(__file__).parents[2]

WRITER = """
import sys
from pathlib import Path
from infra.storage import FolderBucket
bucket = FolderBucket(Path(sys.argv[1]))
print("ready", flush=True)
while True:
    for letter in b"ab":
        bucket.write("name", bytes([letter]) * 20_000_000)
"""

FILLER = """
import resource, sys
from pathlib import Path
from infra.errors import Coded
from infra.storage import FolderBucket
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))
try:
    FolderBucket(Path(sys.argv[1])).write("name", bytes(2_000_000))
except Coded as error:
    print(error)
"""


@pytest.fixture
def bucket(tmp_path: Path) -> FolderBucket:
    return FolderBucket(tmp_path / "store")


@pytest.fixture
def store(bucket: FolderBucket, tmp_path: Path) -> Store:
    return Store(bucket, tmp_path / "cache")


class TestFolderBucket(BucketContract):
    pass


class TestStoreInAFolder(StoreContract):
    pass


def damage(path: Path, data: bytes) -> None:
    """Change a file in place, as a disk does: same inode, later time."""
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)
    os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns + 1))


def test_a_store_makes_no_folder_before_its_first_write(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"), tmp_path / "cache")
    assert store.read_manifest("key") is None
    assert list(store.manifests()) == []
    assert not store.has(ABC)
    assert list(tmp_path.iterdir()) == []


def test_an_opened_file_is_the_stores_own(store: Store, tmp_path: Path) -> None:
    store.put(b"abc")
    assert store.open(ABC) == tmp_path / "store" / "blobs" / "ba" / ABC[7:]
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("wrong", [b"", b"ab", b"abd", b"abcd", b"Abc"])
def test_damaged_bytes_are_set_aside_and_healed_by_the_next_put(store: Store, tmp_path: Path, wrong: bytes) -> None:
    store.put(b"abc")
    damage(store.open(ABC), wrong)
    with pytest.raises(Corrupt, match=rf"E-INTEGRITY .*sha256:{hashlib.sha256(wrong).hexdigest()}"):
        store.open(ABC)
    assert (tmp_path / "store" / "quarantine" / ABC[7:]).read_bytes() == wrong
    with pytest.raises(Missing, match="E-STORE-MISSING"):
        store.open(ABC)
    store.put(b"abc")
    assert store.read(ABC) == b"abc"


def test_a_put_over_damaged_bytes_of_the_same_size_heals_them(store: Store) -> None:
    store.put(b"abc")
    damage(store.open(ABC), b"abd")
    store.put(b"abc")
    assert store.read(ABC) == b"abc"


def test_every_single_flipped_bit_is_found(store: Store) -> None:
    data = bytes(range(16))
    digest = store.put(data).digest
    path = store.open(digest)
    for bit in range(len(data) * 8):
        wrong = bytearray(data)
        wrong[bit // 8] ^= 1 << bit % 8
        damage(path, bytes(wrong))
        with pytest.raises(Corrupt, match="E-INTEGRITY"):
            store.open(digest)
        store.put(data)
    assert store.read(digest) == data


def test_unchanged_bytes_are_hashed_once_in_a_process_and_changed_ones_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(100_000_000))
    settled = time.time_ns() - 10 * files.SETTLED
    os.utime(path, ns=(settled, settled))
    first = time.perf_counter()
    digest = files.digest(path)
    second = time.perf_counter()
    assert files.digest(path) == digest
    assert time.perf_counter() - second < (second - first) / 20
    damage(path, bytes(99_999_999) + b"\1")
    assert files.digest(path) != digest


def test_a_file_changed_a_moment_ago_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    stat = path.stat()
    assert files.digest(path) == ABC
    path.write_bytes(b"abd")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert files.digest(path) == "sha256:" + hashlib.sha256(b"abd").hexdigest()


def test_a_writer_killed_anywhere_leaves_the_old_object_or_the_new_one(bucket: FolderBucket, tmp_path: Path) -> None:
    chance = random.Random(7)
    whole = {bytes([letter]) * 20_000_000 for letter in b"ab"}
    bucket.write("name", min(whole))
    for _ in range(12):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path / "store")], cwd=ROOT, stdout=subprocess.PIPE
        ) as writer:
            assert writer.stdout
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, 0.1))
            writer.send_signal(signal.SIGKILL)
        assert bucket.read("name") in whole
        assert list(bucket.names()) == ["name"]
    assert list((tmp_path / "store").glob("~*")), "no kill came in the middle of a write: the test proves nothing"


def test_a_full_disk_is_told_and_leaves_nothing(bucket: FolderBucket, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FILLER, str(tmp_path / "store")], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("E-DISK no room for ")
    assert list((tmp_path / "store").iterdir()) == []


def test_a_failed_write_leaves_the_old_object(bucket: FolderBucket, tmp_path: Path) -> None:
    bucket.write("name", b"old")
    with pytest.raises(FileNotFoundError):
        bucket.write("name", tmp_path / "absent")
    assert bucket.read("name") == b"old"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["name"]


def test_objects_are_read_only_files_that_obey_the_umask(bucket: FolderBucket, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        bucket.write("name", b"abc")
    finally:
        os.umask(before)
    assert (tmp_path / "store" / "name").stat().st_mode & 0o777 == 0o440


def test_a_checkout_shares_the_stores_bytes_where_it_can(store: Store, tmp_path: Path) -> None:
    store.put(b"abc")
    folder = store.checkout({"model.bin": ABC}, tmp_path / "model")
    assert (folder / "model.bin").stat().st_ino == store.open(ABC).stat().st_ino


@pytest.mark.parametrize(
    "uri", ["", "gs://bucket/x", "file:///tmp/x", "s3://", "s3:///x", "s3://UPPER/x", "s3://a", "https://x"]
)
def test_other_addresses_are_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(Coded, match="E-STORE-URI"):
        open_store(uri, tmp_path)


def test_an_address_with_a_login_is_refused_without_repeating_it(tmp_path: Path) -> None:
    with pytest.raises(Coded, match="E-STORE-URI") as refused:
        open_store("s3://AKIAKEY:hunter2@bucket/x", tmp_path)
    assert "hunter2" not in str(refused.value)


def test_an_endpoint_without_its_scheme_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Coded, match="E-STORE-URI"):
        open_store("s3://bucket/x", tmp_path, "localhost:9000")


@pytest.mark.parametrize(
    ("uri", "shown"),
    [("s3://bucket", "s3://bucket"), ("s3://bucket/a/b/", "s3://bucket/a/b"), ("s3://b.c-d/", "s3://b.c-d")],
)
def test_an_s3_address_opens_a_bucket_without_a_connection(tmp_path: Path, uri: str, shown: str) -> None:
    store = open_store(uri, tmp_path)
    assert isinstance(store.bucket, S3Bucket)
    assert store.uri == shown


def test_a_folder_store_does_not_import_boto3(tmp_path: Path) -> None:
    code = (
        "import sys, infra.storage as s; s.open_store(sys.argv[1], sys.argv[2]).put(b''); print('boto3' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store"), str(tmp_path)], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout.strip() == b"False"


def test_without_any_credentials_the_store_says_so(tmp_path: Path) -> None:
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    code = (
        "import sys\nfrom infra.errors import Denied\nfrom infra.storage import S3Bucket\n"
        "try: S3Bucket('bucket', endpoint='http://127.0.0.1:1').read('x')\nexcept Denied as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("E-S3-AUTH s3://bucket/x at http://127.0.0.1:1")
    assert "AWS_ACCESS_KEY_ID" in done.stdout
