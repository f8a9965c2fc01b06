"""What an S3-compatible server really does, found out by small requests, as Elasticsearch's repository analysis does.

Servers that call themselves compatible differ silently. What Vernal stands on (an object is read as it was last
written, a listing is whole and in order, a damaged upload is refused ...) is required. What it does not stand on is
told, since others may build on it: conditional writes are atomic on Amazon's S3 and Ceph, not on Swift (16 writers may
all win), and not there on rclone. So leases and decisions stand in the ledger, whatever a store promises.
"""

import secrets
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from urllib.error import HTTPError

from infra.errors import Denied
from infra.storage.s3 import S3Bucket

WRITERS = 8  # of one object at a time
SKEW = 60.0  # seconds that two clocks may differ; servers refuse signatures from 300 to 900
PART = 5 << 20  # bytes: the least that S3 takes of a part that is not the last
OPEN = "ANYBODY reads without a key (close the bucket)"


@dataclass
class Behaviour:
    """`broken`: what Vernal needs and the server does not do; `told`: what else is worth knowing."""

    broken: list[str]
    told: list[str]


def look(bucket: S3Bucket) -> Behaviour:
    """The behaviour of the server behind `bucket`; what was written for it is deleted again.

    Raises:
        Denied: E-CLOCK, the server's clock and ours differ; E-S3-AUTH, it refuses us.
    """
    check_clock(bucket)
    own = bucket.within(f"doctor-{secrets.token_hex(8)}")
    try:
        broken = [words for words, holds in NEEDED.items() if not holds(own)]
        stranger = anonymous(own)
        if stranger == OPEN:
            return Behaviour([*broken, stranger], [conditions(own)])
        return Behaviour(broken, [conditions(own), stranger])
    finally:
        for name in list(own.names()):
            own.delete(name)


def check_clock(bucket: S3Bucket) -> None:
    """Raises E-CLOCK where this machine's clock and the server's differ by more than a minute."""
    word, answer = bucket.answer("list_objects_v2", MaxKeys=1)
    now = datetime.now(UTC)
    date = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    there = parsedate_to_datetime(date) if date else now
    if word == "RequestTimeTooSkewed" or abs((now - there).total_seconds()) > SKEW:
        message = f"this machine says {now:%H:%M:%S} UTC, {bucket.endpoint or 'Amazon S3'} {there:%H:%M:%S} ({word})"
        raise Denied("E-CLOCK", f"{message}: set both by a time server; signatures of another time are refused")


def rereads(bucket: S3Bucket) -> bool:
    """An object is read as it was last written, and not at all once it was deleted."""
    for data in (b"first", b"second, and longer"):
        bucket.write("again", data)
        if bucket.read("again") != data:
            return False
    bucket.delete("again")
    return bucket.size("again") is None


def lists(bucket: S3Bucket) -> bool:
    """A listing is whole and in order, over its pages."""
    names = ["list/a", "list/b/c", "list/d"]
    for name in reversed(names):
        bucket.write(name, name.encode())
    found: list[str] = []
    following: dict[str, str] = {}
    for _ in names:
        word, page = bucket.answer("list_objects_v2", Prefix=f"{bucket.prefix}list/", MaxKeys=2, **following)
        found += [each["Key"].removeprefix(bucket.prefix) for each in page.get("Contents", ())]
        if word != "ok" or not page.get("IsTruncated"):
            break
        following = {"ContinuationToken": page["NextContinuationToken"]}
    return found == names


def ranges(bucket: S3Bucket) -> bool:
    """Part of an object can be asked for, so that a download that was cut goes on."""
    bucket.write("range", b"0123456789")
    word, answer = bucket.answer("get_object", "range", Range="bytes=3-")
    return word == "ok" and "ContentRange" in answer and bool(answer["Body"].read() == b"3456789")


def assembles(bucket: S3Bucket) -> bool:
    """An object that was sent in parts is the sum of them."""
    word, upload = bucket.answer("create_multipart_upload", "parts")
    if word != "ok":
        return False
    sent = []
    for number, data in enumerate((bytes(PART), b"end"), start=1):
        _, part = bucket.answer("upload_part", "parts", UploadId=upload["UploadId"], PartNumber=number, Body=data)
        sent.append({"PartNumber": number, "ETag": part.get("ETag", "")})
    bucket.answer("complete_multipart_upload", "parts", UploadId=upload["UploadId"], MultipartUpload={"Parts": sent})
    return bucket.size("parts") == PART + 3 and bucket.read("parts").endswith(b"\0end")


def verifies(bucket: S3Bucket) -> bool:
    """Bytes that were damaged on their way up are refused."""
    word, _ = bucket.answer("put_object", "damaged", Body=b"x", ContentMD5="1B2M2Y8AsgTpgAmY7PhCfg==")  # of no bytes
    return word != "ok"


NEEDED: dict[str, Callable[[S3Bucket], bool]] = {
    "an object is not read as it was last written": rereads,
    "a listing is not whole, or not in order": lists,
    "a download cannot go on where it was cut": ranges,
    "an upload in parts does not come together": assembles,
    "an upload that was damaged on its way is taken (Content-MD5 is not verified)": verifies,
}


def conditions(bucket: S3Bucket) -> str:
    """What becomes of `If-None-Match: *`: one after another, and of several writers at once."""

    def create(name: str) -> str:
        return bucket.answer("put_object", name, Body=b"1", IfNoneMatch="*")[0]

    if [create("one"), create("one")] != ["ok", "PreconditionFailed"]:
        return "conditional writes are ignored: never lock by an object here (leases stand in the ledger)"
    with ThreadPoolExecutor(WRITERS) as pool:
        won = list(pool.map(create, ["race"] * WRITERS)).count("ok")
    if won != 1:
        return f"conditional writes are not atomic: {won} of {WRITERS} writers won (leases stand in the ledger)"
    return f"conditional writes held: 1 of {WRITERS} writers won"


def anonymous(bucket: S3Bucket) -> str:
    """Whether an object is read without any key: only a refusal says no, only the object itself says yes."""
    bucket.write("closed", b"1")
    host = f"{bucket.endpoint}/{bucket.bucket}" if bucket.endpoint else f"https://{bucket.bucket}.s3.amazonaws.com"
    try:
        with urllib.request.urlopen(f"{host}/{bucket.prefix}closed", timeout=5) as answer:
            if answer.read(2) == b"1":
                return OPEN
            found = "something else came"
    except HTTPError as refusal:
        if refusal.code in (401, 403):
            return "nobody reads without a key"
        found = f"HTTP {refusal.code} came"
    except (OSError, HTTPException) as error:
        found = f"no answer came: {type(error).__name__}"
    return f"whether anybody reads without a key is not known ({found})"
