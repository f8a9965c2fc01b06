"""The artifact store: bytes under their digest, manifests last, in a folder or in an S3-compatible bucket.

    files     a file appears whole or not at all; its digest is taken once
    bucket    what a place for objects must do, and which names it takes
    folder    objects as files of one folder
    s3        objects in a bucket; the only module that imports boto3, and only when it is used
    store     content-addressed bytes and manifests over either of them

A name goes down this list only: a store knows a bucket, a bucket knows files.
"""

import re
from pathlib import Path

from infra.errors import Coded
from infra.storage.bucket import Bucket
from infra.storage.folder import FolderBucket
from infra.storage.s3 import Listed, S3Bucket
from infra.storage.store import Store, Stored

__all__ = ["Bucket", "FolderBucket", "Listed", "S3Bucket", "Store", "Stored", "open_bucket", "open_store"]

_S3 = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(.*))?")
_LOGIN = re.compile(r"//[^/]*@")


def open_bucket(uri: str, endpoint: str = "") -> Bucket:
    """The bucket behind a folder path or `s3://bucket/prefix`; raises Coded E-STORE-URI for anything else."""
    if found := _S3.fullmatch(uri):
        return S3Bucket(found[1], (found[2] or "").strip("/"), endpoint)
    if not uri or "://" in uri:
        shown = _LOGIN.sub("//***@", uri)
        raise Coded("E-STORE-URI", f"store {shown!r} is neither a folder nor s3://bucket/prefix: name one of the two")
    return FolderBucket(Path(uri))


def open_store(uri: str, cache: Path, endpoint: str = "") -> Store:
    """The store behind a folder path or `s3://bucket/prefix`; `cache` keeps verified copies of remote objects."""
    return Store(open_bucket(uri, endpoint), cache)
