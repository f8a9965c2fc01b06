"""What every bucket and every store over it keeps: the tests of `test_storage.py` (a folder) and of
`services/test_storage_s3.py` (a real S3 server), which give the fixture `bucket`, empty."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.errors import Coded, Corrupt, Missing
from infra.storage import Bucket, Store

ABC = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # of b"abc", FIPS 180-2
NOTHING = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

REFUSED = [
    "",
    "/etc/passwd",
    "../outside",
    "a/../../b",
    "./a",
    "a//b",
    "a/",
    "a b",
    "a\nb",
    "a\n",
    "a\0b",
    "ä",
    "a~b",
    "a\\b",
    "\u202egpj.exe",
    "x" * 1025,
    "/".join(["y" * 200] * 6),
    "z" * 256,
]


class BucketContract:
    """Objects by name."""

    def test_what_is_written_is_read(self, bucket: Bucket, tmp_path: Path) -> None:
        bucket.write("one/two.txt", b"abc")
        assert bucket.read("one/two.txt") == b"abc"
        bucket.fetch("one/two.txt", tmp_path / "new" / "file")
        assert (tmp_path / "new" / "file").read_bytes() == b"abc"
        assert bucket.size("one/two.txt") == 3

    def test_a_file_is_written_as_its_bytes(self, bucket: Bucket, tmp_path: Path) -> None:
        data = os.urandom(3_000_001)
        (tmp_path / "file").write_bytes(data)
        bucket.write("file", tmp_path / "file")
        assert bucket.read("file") == data

    def test_nothing_is_an_object_too(self, bucket: Bucket, tmp_path: Path) -> None:
        bucket.write("empty", b"")
        assert bucket.size("empty") == 0
        assert bucket.read("empty") == b""
        bucket.fetch("empty", tmp_path / "empty")
        assert (tmp_path / "empty").read_bytes() == b""

    def test_a_second_write_replaces_the_first(self, bucket: Bucket) -> None:
        bucket.write("name", b"a longer first one")
        bucket.write("name", b"second")
        assert bucket.read("name") == b"second"
        assert list(bucket.names()) == ["name"]

    def test_a_fetch_replaces_what_stood_there(self, bucket: Bucket, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"a longer old one")
        bucket.write("name", b"new")
        bucket.fetch("name", tmp_path / "file")
        assert (tmp_path / "file").read_bytes() == b"new"

    def test_what_is_absent_is_missing(self, bucket: Bucket, tmp_path: Path) -> None:
        bucket.write("there", b"")
        assert bucket.size("absent") is None
        with pytest.raises(Missing, match="E-STORE-MISSING"):
            bucket.read("absent")
        with pytest.raises(Missing, match="E-STORE-MISSING"):
            bucket.fetch("absent", tmp_path / "file")
        assert not list(tmp_path.glob("*file*"))
        assert not list(tmp_path.glob("~*"))

    def test_deleting_twice_is_deleting_once(self, bucket: Bucket) -> None:
        bucket.write("name", b"abc")
        bucket.delete("name")
        bucket.delete("name")
        assert bucket.size("name") is None
        assert list(bucket.names()) == []

    def test_names_come_sorted_by_their_bytes_and_cut_by_prefix(self, bucket: Bucket) -> None:
        for name in ("b/2", "a", "b/10", "B", "b-0", "bc", "_", "b/2.json/x"):
            bucket.write(name, b"")
        assert list(bucket.names()) == ["B", "_", "a", "b-0", "b/10", "b/2", "b/2.json/x", "bc"]
        assert list(bucket.names("b")) == ["b-0", "b/10", "b/2", "b/2.json/x", "bc"]
        assert list(bucket.names("b/")) == ["b/10", "b/2", "b/2.json/x"]
        assert list(bucket.names("b/2")) == ["b/2", "b/2.json/x"]
        assert list(bucket.names("nothing/")) == []

    def test_a_bucket_within_sees_its_own_objects_only(self, bucket: Bucket) -> None:
        inner = bucket.within("runs/7")
        inner.write("name", b"inner")
        bucket.write("name", b"outer")
        bucket.write("runs/70", b"neighbour")
        assert list(inner.names()) == ["name"]
        assert inner.read("name") == b"inner"
        assert bucket.read("runs/7/name") == b"inner"
        assert inner.uri == f"{bucket.uri}/runs/7"

    @pytest.mark.parametrize("name", REFUSED, ids=ascii)
    def test_names_that_could_do_harm_are_refused(self, bucket: Bucket, tmp_path: Path, name: str) -> None:
        for attempt in (
            lambda: bucket.write(name, b""),
            lambda: bucket.read(name),
            lambda: bucket.fetch(name, tmp_path / "file"),
            lambda: bucket.size(name),
            lambda: bucket.delete(name),
            lambda: bucket.within(name),
            lambda: bucket.path(name),
        ):
            with pytest.raises(Coded, match="E-KEY") as refused:
                attempt()
            assert str(refused.value).isprintable()

    def test_readers_see_one_of_many_writers_whole(self, bucket: Bucket) -> None:
        bodies = [bytes([letter]) * 200_000 for letter in b"abcdefgh"]
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda body: bucket.write("name", body), bodies))
            seen = list(pool.map(lambda _: bucket.read("name"), range(8)))
        assert set(seen) <= set(bodies)


class StoreContract:
    """Bytes by digest and manifests by key."""

    @pytest.fixture
    def store(self, bucket: Bucket, tmp_path: Path) -> Store:
        return Store(bucket, tmp_path / "cache")

    def test_bytes_are_found_by_their_sha256(self, store: Store) -> None:
        assert store.put(b"abc") == (ABC, 3)
        assert store.put(b"") == (NOTHING, 0)
        assert store.read(ABC) == b"abc"
        assert store.read(NOTHING) == b""
        assert store.bucket.size(f"blobs/ba/{ABC[7:]}") == 3

    def test_a_file_and_its_bytes_are_the_same_to_the_store(self, store: Store, tmp_path: Path) -> None:
        data = os.urandom(100_000)
        (tmp_path / "file").write_bytes(data)
        stored = store.put(tmp_path / "file")
        assert stored == store.put(data)
        assert stored.digest == "sha256:" + hashlib.sha256(data).hexdigest()
        assert store.open(stored.digest).read_bytes() == data

    def test_an_opened_file_is_read_only(self, store: Store) -> None:
        store.put(b"abc")
        assert store.open(ABC).stat().st_mode & 0o222 == 0

    def test_absent_bytes_are_missing(self, store: Store) -> None:
        assert not store.has(ABC)
        with pytest.raises(Missing, match="E-STORE-MISSING"):
            store.open(ABC)

    @pytest.mark.parametrize(
        "digest", ["", "abc", ABC[7:], ABC.upper(), ABC + "0", "sha256:../" + "0" * 61, ABC + "\n"]
    )
    def test_what_is_no_digest_is_refused(self, store: Store, digest: str) -> None:
        with pytest.raises(Coded, match="E-KEY"):
            store.open(digest)

    def test_deleted_bytes_are_gone_from_here_too(self, store: Store) -> None:
        store.put(b"abc")
        store.open(ABC)
        store.delete(ABC)
        store.delete(ABC)
        assert not store.has(ABC)
        with pytest.raises(Missing, match="E-STORE-MISSING"):
            store.open(ABC)

    def test_bytes_that_are_there_are_not_written_again(self, store: Store, tmp_path: Path) -> None:
        class Counting:
            """The bucket, with its writes counted."""

            written = 0

            def __getattr__(self, name: str) -> object:
                return getattr(store.bucket, name)

            def write(self, name: str, source: Path | bytes) -> None:
                self.written += 1
                store.bucket.write(name, source)

        counting = Counting()
        watched = Store(counting, tmp_path / "cache")  # type: ignore[arg-type]
        watched.put(b"abc")
        watched.put(b"abc")
        assert counting.written == 1

    def test_an_object_of_another_size_under_a_digest_is_healed(self, store: Store) -> None:
        store.bucket.write(f"blobs/ba/{ABC[7:]}", b"ab")
        store.put(b"abc")
        assert store.read(ABC) == b"abc"

    def test_a_changed_object_is_never_opened(self, store: Store) -> None:
        store.put(b"abc")
        store.bucket.write(f"blobs/ba/{ABC[7:]}", b"abd")
        with pytest.raises(Corrupt, match="E-INTEGRITY") as wrong:
            store.open(ABC)
        found = hashlib.sha256(b"abd").hexdigest()
        assert found in wrong.value.message
        assert ABC[7:] in wrong.value.message

    def test_manifests_come_back_as_they_were_written(self, store: Store) -> None:
        body = {"name": "Grüße", "scores": [0.1, 1e-30, -0.0, 3], "none": None, "deep": {"b": 1, "a": (True,)}}
        assert store.read_manifest("ingest/one") is None
        store.write_manifest("ingest/one", body)
        assert store.read_manifest("ingest/one") == json.loads(json.dumps(body))
        store.write_manifest("ingest/one", {"second": 2})
        assert store.read_manifest("ingest/one") == {"second": 2}

    def test_a_manifest_with_numbers_as_keys_reads_back(self, store: Store) -> None:
        store.write_manifest("rows", {2: "two", 10: "ten"})  # type: ignore[dict-item]
        assert store.read_manifest("rows") == {"2": "two", "10": "ten"}

    def test_a_manifest_holds_no_nan(self, store: Store) -> None:
        with pytest.raises(ValueError, match="JSON"):
            store.write_manifest("scores", {"loss": float("nan")})
        assert store.read_manifest("scores") is None

    def test_manifests_are_listed_by_key(self, store: Store) -> None:
        for key in ("train/b", "train/a", "ingest/c", "training"):
            store.write_manifest(key, {})
        store.put(b"abc")
        assert list(store.manifests()) == ["ingest/c", "train/a", "train/b", "training"]
        assert list(store.manifests("train/")) == ["train/a", "train/b"]
        store.delete_manifest("train/a")
        store.delete_manifest("train/a")
        assert list(store.manifests("train/")) == ["train/b"]

    @pytest.mark.parametrize(
        "damage",
        [
            b"",
            b"not json",
            b"[]",
            b"null",
            b'{"body": {}}',
            b'{"body": {"a": 2}, "sha256": "%s"}' % hashlib.sha256(b'{"a":1}').hexdigest().encode(),
            b'{"body": {"a": NaN}, "sha256": ""}',
            b'{"body": "text", "sha256": ""}',
            b'{"body": {"a": "\\ud800"}, "sha256": ""}',
            b"\xff\xfe",
            b"[" * 200_000,
        ],
        ids=lambda damage: ascii(damage[:24]),
    )
    def test_a_damaged_manifest_is_never_believed(self, store: Store, damage: bytes) -> None:
        store.bucket.write("manifests/key.json", damage)
        with pytest.raises(Corrupt, match=r"E-MANIFEST .*manifests/key\.json"):
            store.read_manifest("key")

    def test_a_manifest_too_large_to_be_one_is_not_even_read(self, store: Store) -> None:
        store.bucket.write("manifests/key.json", bytes((16 << 20) + 1))
        with pytest.raises(Corrupt, match=r"E-MANIFEST .*16777217 bytes"):
            store.read_manifest("key")

    @pytest.mark.parametrize("key", ["../blobs/x", "/x", "a b"])
    def test_a_manifest_key_cannot_lead_out(self, store: Store, key: str) -> None:
        with pytest.raises(Coded, match="E-KEY"):
            store.write_manifest(key, {})
        with pytest.raises(Coded, match="E-KEY"):
            store.read_manifest(key)

    def test_a_store_within_may_delete_what_the_outer_one_keeps(self, store: Store) -> None:
        inner = store.within("checkpoints/run-1")
        store.put(b"abc")
        inner.put(b"abc")
        inner.write_manifest("step", {})
        inner.delete(ABC)
        assert not inner.has(ABC)
        assert store.read(ABC) == b"abc"
        assert list(store.manifests()) == []

    def test_a_checkout_lays_files_out_by_name(self, store: Store, tmp_path: Path) -> None:
        files = {"config.json": store.put(b"{}").digest, "onnx/model.bin": store.put(b"abc").digest, "again": ABC}
        for _ in range(2):
            folder = store.checkout(files, tmp_path / "model")
        assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == set(files)
        assert (folder / "onnx" / "model.bin").read_bytes() == b"abc"
        assert (folder / "config.json").read_bytes() == b"{}"

    @pytest.mark.parametrize("name", ["../x", "/tmp/x", "a/../../x", ""])
    def test_a_checkout_writes_nothing_outside_its_folder(self, store: Store, tmp_path: Path, name: str) -> None:
        store.put(b"abc")
        with pytest.raises(Coded, match="E-KEY"):
            store.checkout({name: ABC}, tmp_path / "model")
        assert not (tmp_path / "x").exists()
