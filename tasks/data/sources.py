"""Where rows come from: a location in a recipe becomes the parts that are read, each with a fingerprint of its content.

A part is a local file, an object in S3 or a dataset of the Hub at one revision. Its name is relative to what the recipe
names, and where things live never enters a fingerprint: the same files elsewhere are the same source. Local files are
hashed whole (1 GB/s), objects are known by ETag and size, so that `vernal check` downloads nothing. The price: a file
here and the same one in S3 are two sources.

Files called train, validation (valid, val, dev) or test, also in shards (`train-00000-of-00002.parquet`), name the
splits of a folder; what else lies there is left alone.
"""

import glob
import hashlib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.settings import settings
from tasks.errors import BadInput, listed
from tasks.recipe import Files
from tasks.records import Digest, digest_of

if TYPE_CHECKING:
    from infra.storage import Listed, S3Bucket

MAX_FILES = 100_000  # looked at in one folder or prefix

FORMATS = {".jsonl": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".txt": "text"}
_ASIDE = (".json", ".txt")  # beside other data they are cards, READMEs and licences
_SPLITS = {"train": "train", "test": "test", **dict.fromkeys(("validation", "valid", "val", "dev"), "validation")}
_SHARD = re.compile(r"-\d{5}-of-\d{5}$")
_GLOB = re.compile(r"[*?\[]")
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

Found = dict[str, tuple[str, str]]  # relative name -> URI, fingerprint ("": still to be computed)


class Part(NamedTuple):
    """One file, object or dataset of a source."""

    name: str  # relative, with slashes
    split: str  # "" where the source names none
    uri: str
    fingerprint: str  # sha256:... of a file, etag+size of an object, revision of a dataset
    format: str  # jsonl, json, csv, tsv, parquet, text or hub


def locate(value: str, beside: Path, root: str) -> str:
    """The file, folder, glob or URL that is meant: looked up beside the recipe, then below `root` (a folder or s3://).

    Raises:
        BadInput: E-SOURCE-MISSING, with every place that was looked at.
    """
    if "://" in value:
        return value
    relative, remote = not Path(value).is_absolute(), "://" in root
    folders = [folder.absolute() for folder in (beside, *([Path(root)] if root and relative and not remote else []))]
    for folder in folders:
        if (folder / value).exists():
            return str(folder / value)
        if _GLOB.search(value) and next(glob.iglob(value, root_dir=folder, recursive=True), None):
            return f"{glob.escape(str(folder))}/{value}" if relative else value
    if remote and relative and ".." not in Path(value).parts:
        return f"{root.rstrip('/')}/{value}"
    looked = " nor ".join(str(folder / value) for folder in folders)
    raise BadInput(
        "E-SOURCE-MISSING", f"{value!r}: there is no {looked}; mend it, or VERNAL_DATA (for a model VERNAL_MODELS)"
    )


def resolve(source: str | Files, beside: Path) -> list[Part]:
    """The parts of a source, sorted by split and name.

    Raises:
        BadInput: E-SOURCE-MISSING, E-SOURCE-SPLIT, E-SOURCE-SCHEME, E-DATA-FORMAT or E-DATA-COUNT.
        Coded: E-KEY for a name that could do harm; Unreachable, Denied, Missing as S3 answers.
    """
    if isinstance(source, str):
        parts = _parts(source, beside)
    else:
        given = [(split, location) for split, location in source if location is not None]
        parts = [part for split, location in given for part in _parts_of(split, location, beside)]
    return sorted(parts, key=lambda part: (part.split, part.name))


def fingerprint(parts: Iterable[Part]) -> Digest:
    """What the parts contain, whatever their order and wherever they live."""
    return digest_of(sorted([part.name, part.split, part.fingerprint] for part in parts))


def size(part: Part) -> int:
    """Bytes to read, compressed as they are; 0 for a dataset of the Hub."""
    if part.format == "hub":
        return 0
    return int(part.fingerprint.rpartition("+")[2]) if part.uri.startswith("s3://") else _state(Path(part.uri))[0]


@contextmanager
def opened(part: Part) -> Iterator[Path]:
    """The part as a local file while the block lasts; an object is downloaded for it.

    Raises:
        BadInput: E-DATA-CHANGED, unless the content is what `resolve` saw, from the first byte to the last.
    """
    if part.uri.startswith("s3://"):
        with _fetched(part) as path:
            yield path
        return
    path = Path(part.uri)
    before = _state(path)
    yield path
    if _state(path) != before or _sha256(path) != part.fingerprint:
        raise _changed(part)


def split_of(name: str) -> str:
    """The split that a file's name says, or ""."""
    stem = PurePosixPath(name.removesuffix(".gz")).name.partition(".")[0]
    return _SPLITS.get(_SHARD.sub("", stem.lower()), "")


def chosen(names: Iterable[str]) -> dict[str, str]:
    """Names with the split each of them says: only those that say one, if any does, else all with "".

    Raises:
        BadInput: E-SOURCE-SPLIT if there is a test or validation split, but the training rows are hard to tell.
    """
    splits = {name: split_of(name) for name in names}
    given = {name: split for name, split in splits.items() if split}
    if given and len(given) < len(splits) and "train" not in given.values():
        found = listed([repr(name) for name in splits])
        raise BadInput("E-SOURCE-SPLIT", f"found {found}: which is train? Name it so, or write {{train: ..., test: …}}")
    return given or splits


def _parts_of(split: str, location: str, beside: Path) -> list[Part]:
    """The parts of a location that was given for one split: if it names splits itself, those of this one."""
    parts = _parts(location, beside)
    mine = [part for part in parts if part.split in ("", split)]
    if not mine:
        found = " and ".join(sorted({part.split for part in parts}))
        raise BadInput("E-SOURCE-SPLIT", f"source.{split}: {location!r} holds {found}; name the file that is meant")
    return [part._replace(name=f"{split}/{part.name}", split=split) for part in mine]


def _parts(value: str, beside: Path) -> list[Part]:
    location = locate(value, beside, settings().data_root)
    scheme = location.partition("://")[0] if "://" in location else "file"
    if scheme == "hf":
        name, _, revision = location.removeprefix("hf://").rpartition("@")
        return [Part(name, "", location, revision, "hub")]
    if scheme not in ("file", "s3"):
        raise BadInput("E-SOURCE-SCHEME", f"{value!r} is no place of rows; wanted a path, s3:// or hf://name@revision")
    single, found = _remote(location) if scheme == "s3" else _local(location)
    names = dict.fromkeys(found, "") if single else chosen(_with_rows(found, location))
    return [_part(name, split, *found[name]) for name, split in names.items()]


def _part(name: str, split: str, uri: str, pinned: str) -> Part:
    if _HIDDEN.search(name) or ".." in name.split("/"):
        raise BadInput("E-KEY", f"file name {name!r:.200}: no '..' and no invisible characters; rename the file")
    if suffix := _suffix(name):
        return Part(name, split, uri, pinned or _sha256(Path(uri)), FORMATS[suffix])
    raise BadInput("E-DATA-FORMAT", f"{name!r}: the suffix says no format that we read; wanted {_wanted()}")


def _local(location: str) -> tuple[bool, Found]:
    """Whether the location is one file, and the files there."""
    place = Path(location)
    if place.is_file():
        return True, {place.name: (location, "")}
    if place.is_dir():
        base, paths = place, place.rglob("*")
    else:
        base = Path(_GLOB.split(location, maxsplit=1)[0] + "x").parent
        hits = map(Path, glob.iglob(location, recursive=True))
        paths = (path for hit in hits for path in (hit.rglob("*") if hit.is_dir() else [hit]))
    files = [path for path in _bounded(paths, location) if path.is_file()]
    return False, {path.relative_to(base).as_posix(): (str(path), "") for path in files}


def _remote(location: str) -> tuple[bool, Found]:
    """Whether the location is one object, and the objects there."""
    bucket, key = _bucket(location)
    literal = _GLOB.split(key, maxsplit=1)[0]
    objects = list(_bounded(bucket.listing(literal), location))
    if objects and objects[0].name == key:  # sorted: nothing that begins with the key stands before it
        base, objects = key[: key.rfind("/") + 1], objects[:1]
    elif literal != key:
        base, objects = literal[: literal.rfind("/") + 1], [one for one in objects if fnmatchcase(one.name, key)]
    else:
        base = f"{key.rstrip('/')}/" if key else ""
        objects = [one for one in objects if one.name.startswith(base)]
    uri = f"s3://{bucket.bucket}/"
    found = {one.name.removeprefix(base): (uri + one.name, _pinned(one)) for one in objects}
    return [one.name for one in objects] == [key], found


def _bounded(found: Iterable[Any], location: str) -> Iterator[Any]:
    for number, one in enumerate(found):
        if number == MAX_FILES:
            raise BadInput("E-DATA-COUNT", f"{location}: more than {MAX_FILES} files; name a narrower folder or glob")
        yield one


def _with_rows(names: Iterable[str], location: str) -> list[str]:
    """The names that hold rows by their suffix; .json and .txt count where there is nothing else."""
    seen = [name for name in names if _suffix(name) and not re.search(r"(^|/)[._]", name)]
    rows = [name for name in seen if split_of(name) or _suffix(name) not in _ASIDE] or seen
    if not rows:
        raise BadInput("E-SOURCE-MISSING", f"{location}: no file ends in {_wanted()}; mend the path")
    return rows


def _suffix(name: str) -> str:
    """The suffix that tells the format, or ""."""
    packed, suffix = name.lower().endswith(".gz"), PurePosixPath(name.lower().removesuffix(".gz")).suffix
    return suffix if suffix in FORMATS and not (packed and suffix == ".parquet") else ""


def _wanted() -> str:
    return ", ".join(FORMATS) + " (all but .parquet also with .gz)"


def _bucket(uri: str) -> tuple["S3Bucket", str]:
    from infra.storage import S3Bucket

    name, _, key = uri.removeprefix("s3://").partition("/")
    return S3Bucket(name, "", settings().s3_endpoint), key


@contextmanager
def _fetched(part: Part) -> Iterator[Path]:
    bucket, key = _bucket(part.uri)
    settings().cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="source-", dir=settings().cache) as folder:
        path = Path(folder) / "object"
        bucket.fetch(key, path)
        now = next(bucket.listing(key), None)
        if now is None or now.name != key or _pinned(now) != part.fingerprint or path.stat().st_size != now.size:
            raise _changed(part)
        yield path


def _pinned(found: "Listed") -> str:
    return f"{found.etag}+{found.size}"


def _changed(part: Part) -> BadInput:
    return BadInput(
        "E-DATA-CHANGED", f"{part.uri} changed while it was read; start again when nobody writes to it, or read a copy"
    )


def _state(path: Path) -> tuple[int, int, int]:
    with _readable(path):
        found = path.stat()
    return found.st_size, found.st_mtime_ns, found.st_ino


def _sha256(path: Path) -> str:
    with _readable(path), path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise BadInput("E-SOURCE-MISSING", f"{path}: {error.strerror}; make the file readable") from error
