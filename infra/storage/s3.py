"""Objects in an S3-compatible bucket; the only module that imports boto3.

Choices, each with its reason:
- Checksums of the SDK stay off (`when_required`), because many compatible servers refuse them; instead every upload
  carries its Content-MD5, which servers do verify, and `infra.storage.store` verifies the SHA-256 of every download.
- A download that is cut goes on where it stopped, if the object is still the same one; five tries in all.
- Above 64 MiB a file travels in parts of 16 MiB, four at a time; a failed upload is aborted. A kill, or
  a lost answer to the first request, leaves an upload behind, unseen but paid for: `sweep` aborts those of a day ago.
- A server that refuses connections is given up after 5 tries and at most 15 s; a silent one after 112 s (measured).
"""

import base64
import hashlib
import io
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from infra.errors import Coded, Denied, Missing, Unreachable
from infra.storage import files
from infra.storage.bucket import checked, checked_prefix, missing

TRIES = 5
SILENCE = 20  # seconds that a server may be silent
WHOLE = 64 << 20  # bytes sent in one request at most
PART = 16 << 20  # bytes
PARTS = 10_000  # S3 takes no more
AT_ONCE = 4  # parts on their way together
BITE = 64 << 10  # bytes that a cut in a download can cost

PASSING = {"SlowDown", "RequestTimeout", "Throttling", "ThrottlingException", "PreconditionFailed"}
DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "Garbled", "ValueError"}
NEEDED = {  # what an answer has to say; without it, it was damaged on the way
    "head_object": {"ContentLength"},
    "get_object": {"ETag", "Body"},
    "create_multipart_upload": {"UploadId"},
    "upload_part": {"ETag"},
}
LOCKED_OUT = {"ExpiredToken", "InvalidToken", "TokenRefreshRequired", "AuthorizationHeaderMalformed"}


class Listed(NamedTuple):
    """An object as a listing shows it; the same name with another `etag` holds other bytes."""

    name: str
    size: int
    etag: str


class Garbled(ValueError):
    """An answer that lacks what every answer has; for numbers and dates that are none the SDK raises ValueError."""


class S3Bucket:
    """The objects below `prefix` of one bucket; credentials and region are those that boto3 finds.

    Every method raises Unreachable E-S3-UNAVAILABLE, Denied E-S3-AUTH or E-S3-REFUSED, Missing E-S3-BUCKET.
    """

    def __init__(self, bucket: str, prefix: str = "", endpoint: str = "") -> None:
        if endpoint and not endpoint.startswith(("http://", "https://")):
            raise Coded("E-STORE-URI", f"S3 endpoint {endpoint!r} lacks http:// or https:// in front: write it whole")
        self.bucket = bucket
        self.prefix = checked(prefix) + "/" if prefix else ""
        self.endpoint = endpoint
        self._seen = False

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def path(self, name: str) -> None:
        checked(name)

    def within(self, prefix: str) -> "S3Bucket":
        inner = copy(self)
        inner.prefix = self._key(prefix) + "/"
        return inner

    def create(self) -> None:
        """Make the bucket itself, if it is not there: for servers that we start."""
        if not self._exists():
            self._call("create_bucket")

    def write(self, name: str, source: Path | bytes) -> None:
        key = self._key(name)
        if isinstance(source, Path) and source.stat().st_size > WHOLE:
            self._write_parts(name, source)
        else:
            data = source if isinstance(source, bytes) else source.read_bytes()
            self._call("put_object", Key=key, Body=data, ContentMD5=_md5(data))

    def read(self, name: str) -> bytes:
        out = io.BytesIO()
        self._download(self._key(name), out)
        return out.getvalue()

    def fetch(self, name: str, to: Path) -> None:
        with files.arriving(to) as out:
            self._download(self._key(name), out)

    def size(self, name: str) -> int | None:
        try:
            return int(self._call("head_object", Key=self._key(name))["ContentLength"])
        except Missing:
            if self._exists():
                return None
            raise self._no_bucket() from None

    def names(self, prefix: str = "") -> Iterator[str]:
        return (found.name for found in self.listing(prefix))

    def listing(self, prefix: str = "") -> Iterator[Listed]:
        """What begins with `prefix`, in the order of the names' bytes; "folders" of no bytes are left out.

        Names that no bucket of ours takes are listed too: a reader must refuse them, not overlook them.
        """
        begin = self.prefix + checked_prefix(prefix)
        page: dict[str, str] = {}
        while True:
            answer = self._call("list_objects_v2", Prefix=begin, **page)
            for found in answer.get("Contents", ()):
                if not found["Key"].endswith("/"):
                    yield Listed(found["Key"].removeprefix(self.prefix), found["Size"], found["ETag"].strip('"'))
            following = {"ContinuationToken": answer.get("NextContinuationToken", "")}
            if not answer.get("IsTruncated"):
                return
            if following == page:
                raise Coded("E-S3-LISTING", f"{self._where(begin)}: the listing goes in a circle: mend the server")
            page = following

    def delete(self, name: str) -> None:
        self._call("delete_object", Key=self._key(name))

    def answer(self, operation: str, name: str = "", **arguments: Any) -> tuple[str, dict[str, Any]]:
        """What the server says to one request: `ok`, or its word for the failure, and its answer.

        For looking at a server; everybody else wants failures sorted. Raises E-S3-UNAVAILABLE where none answers.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        named = {"Key": self._key(name)} if name else {}
        try:
            return "ok", getattr(self._client, operation)(Bucket=self.bucket, **named, **arguments)
        except ClientError as error:
            return _code(error), error.response
        except BotoCoreError as error:
            raise self._coded(error, name) from error

    def sweep(self, older: float) -> list[str]:
        swept, page = [], dict[str, str]()
        while True:
            answer = self._call("list_multipart_uploads", Prefix=self.prefix, **page)
            for begun in answer.get("Uploads", ()):
                if begun["Initiated"].timestamp() < time.time() - older:
                    with suppress(Missing):  # completed, or aborted by another
                        self._call("abort_multipart_upload", Key=begun["Key"], UploadId=begun["UploadId"])
                    swept.append(begun["Key"].removeprefix(self.prefix))
            following = {mark: answer.get(f"Next{mark}", "") for mark in ("KeyMarker", "UploadIdMarker")}
            if not answer.get("IsTruncated"):
                return swept
            if following == page:
                raise Coded("E-S3-LISTING", f"{self._where('')}: the listing goes in a circle: mend the server")
            page = following

    @cached_property
    def _client(self) -> Any:
        import boto3
        from botocore.config import Config

        session = boto3.session.Session()
        config = Config(
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=SILENCE,
            retries={"mode": "standard", "total_max_attempts": TRIES},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if self.endpoint else "auto"},
        )
        region = session.region_name or "us-east-1"
        return session.client("s3", region_name=region, endpoint_url=self.endpoint or None, config=config)

    def _key(self, name: str) -> str:
        return self.prefix + checked(name)

    def _where(self, key: str) -> str:
        return f"s3://{self.bucket}/{key} at {self.endpoint or 'Amazon S3'}"

    def _exists(self) -> bool:
        """Whether the bucket is there; once seen it is not asked for again."""
        if not self._seen:
            try:
                self._call("head_bucket")
            except Missing:
                return False
            self._seen = True
        return True

    def _download(self, key: str, out: BinaryIO) -> None:
        """Write the object's bytes to `out`, going on after a cut where it stopped."""
        from botocore.exceptions import BotoCoreError

        etag, cut = "", None
        for tried in range(TRIES):
            if tried:
                time.sleep(_pause(tried - 1))
            rest = {"Range": f"bytes={out.tell()}-", "IfMatch": etag} if out.tell() else {}
            answer = self._call("get_object", Key=key, **rest)
            if rest and "ContentRange" not in answer:
                out.seek(0)
                out.truncate()
            etag = answer["ETag"]
            try:
                with closing(answer["Body"]) as body:
                    for chunk in body.iter_chunks(BITE):
                        out.write(chunk)
                return
            except BotoCoreError as error:
                cut = error
        raise self._coded(cut, key) from cut

    def _write_parts(self, name: str, source: Path) -> None:
        """Upload a large file in parts; an upload that fails leaves none behind."""
        key, total = self._key(name), source.stat().st_size
        step = max(PART, -(-total // PARTS))
        upload = {"Key": key, "UploadId": self._call("create_multipart_upload", Key=key)["UploadId"]}

        def send(number: int) -> dict[str, Any]:
            with source.open("rb") as file:
                file.seek((number - 1) * step)
                data = file.read(step)
            answer = self._call("upload_part", **upload, PartNumber=number, Body=data, ContentMD5=_md5(data))
            return {"PartNumber": number, "ETag": answer["ETag"]}

        try:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                parts = list(pool.map(send, range(1, -(-total // step) + 1)))
            try:
                self._call("complete_multipart_upload", **upload, MultipartUpload={"Parts": parts})
            except Missing:  # the upload is: perhaps because an earlier try completed it, and its answer was lost
                if self.size(name) != total:
                    raise
        except BaseException:
            with suppress(Coded):
                self._call("abort_multipart_upload", **upload)
            raise

    def _call(self, operation: str, **arguments: Any) -> Any:
        """One request. What was damaged on its way there or back is asked again; every failure leaves as a Coded."""
        from botocore.exceptions import BotoCoreError, ClientError

        for tried in range(TRIES):
            try:
                answer = getattr(self._client, operation)(Bucket=self.bucket, **arguments)
                if lacking := NEEDED.get(operation, set()) - answer.keys():
                    raise Garbled(f"{operation} without {', '.join(lacking)}")
                return answer
            except (BotoCoreError, ClientError, ValueError) as error:
                if _code(error) not in DAMAGED or tried == TRIES - 1:
                    raise self._coded(error, arguments.get("Key", "")) from error
                time.sleep(_pause(tried))
        raise AssertionError("every try returns or raises")

    def _coded(self, error: Any, key: str) -> Coded:
        """What a failure of the SDK means to us: the one place where that is decided."""
        from botocore import exceptions as sdk

        found, status, where = _code(error), _status(error), self._where(key)
        keyless = (
            sdk.NoCredentialsError,
            sdk.PartialCredentialsError,
            sdk.CredentialRetrievalError,
            sdk.ProfileNotFound,
            sdk.SSOError,
        )
        if isinstance(error, keyless) or status in (401, 403) or found in LOCKED_OUT:
            return Denied(
                "E-S3-AUTH",
                f"{where} is closed to us ({found}): check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, that key's "
                f"rights and this machine's clock",
            )
        if found == "NoSuchBucket" or (status == 404 and not key):
            return self._no_bucket()
        if status == 404:
            return missing(where)
        if status is None or status >= 500 or status in (408, 429) or found in PASSING | DAMAGED:
            return Unreachable(
                "E-S3-UNAVAILABLE",
                f"{where} does not serve us ({found}, after {TRIES} tries): check that the server is up and that the "
                f"endpoint is right, then start again",
            )
        return Denied("E-S3-REFUSED", f"{where} refuses the request ({found}, HTTP {status}): check region and server")

    def _no_bucket(self) -> Missing:
        return Missing(
            "E-S3-BUCKET",
            f"no bucket {self.bucket} at {self.endpoint or 'Amazon S3'}: create it, or mend the store's name",
        )


def _code(error: Any) -> str:
    """The server's word for a failure, or the SDK's own if no answer came; letters and digits only."""
    answer = getattr(error, "response", None)
    word = str(answer.get("Error", {}).get("Code", "?")) if answer else type(error).__name__
    return word if word.isalnum() else "?"


def _status(error: Any) -> int | None:
    """The HTTP status of a failure; None: no answer came."""
    answer = getattr(error, "response", None)
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)) if answer else None


def _md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()


def _pause(tried: int) -> float:
    """Seconds until the next try: doubled each time, at random so that many do not come back together."""
    return random.uniform(0.1, 0.2) * float(2**tried)
