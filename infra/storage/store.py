"""Content-addressed bytes and manifests: what is written once is found by what it is, and proved on every read.

    blobs/ab/ab12…       bytes, under their SHA-256
    manifests/KEY.json   {"body": …, "sha256": of the body's canonical JSON}, written last and in one piece
    quarantine/ab12…     bytes that stood under a digest that is not theirs (folder stores)

No reader trusts the wire, the disk or the server: a file that `open` returns has been hashed by this process since it
last changed. The price is one hash per process and file (0.2 s for 200 MB where it was measured).
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from infra.errors import Coded, Corrupt
from infra.storage import files
from infra.storage.bucket import Bucket, checked, missing

LARGEST_MANIFEST = 16 << 20  # bytes

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


class Stored(NamedTuple):
    """Bytes in a store: `sha256:<hex>` and their number."""

    digest: str
    size: int


class Store:
    """Bytes by digest and manifests by key, over a bucket; `cache` keeps verified copies of what is not local."""

    def __init__(self, bucket: Bucket, cache: Path) -> None:
        self.bucket = bucket
        self.cache = cache

    @property
    def uri(self) -> str:
        return self.bucket.uri

    def put(self, source: Path | bytes) -> Stored:
        """Store bytes; nothing is sent if they are there already. A damaged object is replaced where it can be seen."""
        if isinstance(source, bytes):
            stored = Stored("sha256:" + hashlib.sha256(source).hexdigest(), len(source))
        else:
            stored = Stored(files.digest(source), source.stat().st_size)
        if not self._holds(stored):
            self.bucket.write(_blob(stored.digest), source)
        return stored

    def open(self, digest: str) -> Path:
        """A local, read-only file with exactly these bytes.

        Raises Missing E-STORE-MISSING and, for other bytes than these, Corrupt E-INTEGRITY.
        """
        own = self.bucket.path(_blob(digest))
        return self._verified(digest, own) if own else self._copied(digest)

    def read(self, digest: str) -> bytes:
        """Exactly these bytes, in memory: for small things; raises like `open`."""
        return self.open(digest).read_bytes()

    def has(self, digest: str) -> bool:
        """Whether something stands under this digest; whether it is right is seen when it is opened."""
        return self.bucket.size(_blob(digest)) is not None

    def delete(self, digest: str) -> None:
        """Forget these bytes, the cached copy too."""
        self.bucket.delete(_blob(digest))
        self._cached(digest).unlink(missing_ok=True)

    def write_manifest(self, key: str, body: dict[str, Any]) -> None:
        """Make `body`, a JSON object, the manifest of `key`: there whole when this returns, or not there at all."""
        plain = json.loads(_canonical(body))
        manifest = {"body": plain, "sha256": hashlib.sha256(_canonical(plain)).hexdigest()}
        self.bucket.write(_manifest(key), _canonical(manifest))

    def read_manifest(self, key: str) -> dict[str, Any] | None:
        """The body that was written under `key`; None: there is none.

        Raises Corrupt E-MANIFEST if two reads of it came out damaged.
        """
        name = _manifest(key)
        size = self.bucket.size(name)
        if size is None:
            return None
        if size > LARGEST_MANIFEST:
            raise self._damaged(name, f"{size} bytes")
        found: Exception | None = None
        for _ in range(2):
            try:
                return _body(self.bucket.read(name))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                found = error
        raise self._damaged(name, f"{type(found).__name__}: {str(found)[:100]}") from found

    def manifests(self, prefix: str = "") -> Iterator[str]:
        """The keys that begin with `prefix`, sorted."""
        names = self.bucket.names(f"manifests/{prefix}")
        return (name[len("manifests/") : -len(".json")] for name in names if name.endswith(".json"))

    def digests(self) -> Iterator[str]:
        """The digests of all bytes that are here, whether a manifest names them or not."""
        return (f"sha256:{name.rpartition('/')[2]}" for name in self.bucket.names("blobs/"))

    def delete_manifest(self, key: str) -> None:
        """Undo the commit of `key`; its bytes stay."""
        self.bucket.delete(_manifest(key))

    def within(self, prefix: str) -> "Store":
        """A store of its own below `prefix`: its bytes may be deleted without asking who else uses them."""
        return Store(self.bucket.within(prefix), self.cache)

    def checkout(self, named: Mapping[str, str], folder: Path) -> Path:
        """Lay out {name: digest} as verified, read-only files in `folder`, and return it.

        The files may be the store's own under a second name: never save into this folder. Raises E-KEY for a name that
        could lead out of it.
        """
        for name, digest in named.items():
            files.link(self.open(digest), folder / checked(name))
        return folder

    def _holds(self, stored: Stored) -> bool:
        """The object is there with this size and, as far as that can be seen without a download, with these bytes."""
        name = _blob(stored.digest)
        if self.bucket.size(name) != stored.size:
            return False
        own = self.bucket.path(name)
        return own is None or files.digest(own) == stored.digest

    def _verified(self, digest: str, own: Path) -> Path:
        """The object's own file; wrong bytes are moved aside, so that the next `put` can write the right ones."""
        try:
            found = files.digest(own)
        except FileNotFoundError:
            raise missing(f"{self.uri}/{_blob(digest)}") from None
        if found != digest:
            aside = own.parents[2] / "quarantine" / own.name
            with suppress(OSError):
                files.make_folder(aside.parent)
                os.replace(own, aside)
            raise self._corrupt(digest, found, f"they were moved to {aside}; run the stage that made them again")
        return own

    def _copied(self, digest: str) -> Path:
        """A verified copy in the cache; a download that arrives wrong is repeated once."""
        copy, found = self._cached(digest), ""
        if copy.exists() and files.digest(copy) == digest:
            return copy
        for _ in range(2):
            arrived = files.beside(copy)
            try:
                self.bucket.fetch(_blob(digest), arrived)
                found = files.digest(arrived)
                if found == digest:
                    os.replace(arrived, copy)
                    return copy
            finally:
                arrived.unlink(missing_ok=True)
        advice = "two downloads came out wrong; if a third does, delete the object and run the stage that made it again"
        raise self._corrupt(digest, found, advice)

    def _cached(self, digest: str) -> Path:
        return self.cache / _hex(digest)

    def _damaged(self, name: str, found: str) -> Corrupt:
        return Corrupt(
            "E-MANIFEST",
            f"{self.uri}/{name} is damaged ({found}); wanted: a manifest as it was written; delete it, and the next "
            f"run makes it again",
        )

    def _corrupt(self, digest: str, found: str, advice: str) -> Corrupt:
        return Corrupt("E-INTEGRITY", f"{self.uri}/{_blob(digest)} holds {found}: wrong bytes are never used; {advice}")


def _hex(digest: str) -> str:
    if not (found := _DIGEST.fullmatch(digest)):
        raise Coded("E-KEY", f"{digest[:100]!r} is no digest; wanted: sha256: and 64 hexadecimal digits")
    return found[1]


def _blob(digest: str) -> str:
    return f"blobs/{_hex(digest)[:2]}/{_hex(digest)}"


def _manifest(key: str) -> str:
    return f"manifests/{key}.json"


def _body(manifest: bytes) -> dict[str, Any]:
    """The body of a manifest, if it is the one that its sha256 speaks of."""
    read = json.loads(manifest)
    body: dict[str, Any] = dict(read["body"])
    if hashlib.sha256(_canonical(body)).hexdigest() != read["sha256"]:
        raise ValueError("another body than its sha256 says")
    return body


def _canonical(value: Any) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()
