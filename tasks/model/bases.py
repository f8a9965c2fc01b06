"""Where a base model is, and what tells it from another: light enough for `vernal check`.

A base is named by folder, by a `.safetensors` file with its config beside it, by `s3://`, by `hf://name@revision`, by
`registry://name@alias`, or it is an architecture, which has no files.
"""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, rmtree

from infra.ledger import Ledger
from infra.settings import settings
from infra.storage import S3Bucket, open_bucket
from tasks import recipe, stages
from tasks.data import sources
from tasks.errors import BadInput, Missing, Unreachable
from tasks.records import Bundle, Digest, Version, digest_of

WANTED = ("config.json", "generation_config.json", *stages.TOKENIZER_FILES)
WEIGHTS = (".safetensors", ".safetensors.index.json")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".onnx", ".gguf")


@dataclass(frozen=True)
class Base:
    """A base model before it is read: its fingerprint, and how to lay its files out in a folder."""

    name: str
    fingerprint: Digest | None  # None: an architecture
    lay_out: Callable[[Path], Path]
    read: Callable[[str], bytes | None] = lambda _: None  # a small file; None: not there, or not without a download


def resolve(model: recipe.Model, beside: Path) -> Base:
    """The base that a recipe names.

    Raises:
        Missing: E-MODEL-MISSING or E-REG-MISSING.
        BadInput: E-MODEL-FORMAT, there is nothing to be read safely.
    """
    if not isinstance(model.base, str):
        return Base("architecture", None, lambda folder: folder)
    scheme, _, rest = model.base.partition("://")
    if scheme == "registry":
        return _registered(rest)
    if scheme == "hf":
        name, _, revision = rest.rpartition("@")
        return Base(model.base, digest_of([name, revision]), lambda folder: _downloaded(name, revision, folder))
    where = sources.locate(model.base, beside, settings().models_root)
    return _in_bucket(where) if where.startswith("s3://") else _in_folder(Path(where))


def _in_folder(path: Path) -> Base:
    folder = path.parent if path.suffix == ".safetensors" else path
    if not folder.is_dir():
        raise Missing("E-MODEL-MISSING", f"{path} is no folder and no .safetensors file; name a Hugging Face directory")
    files = {each.name: each for each in sorted(folder.iterdir()) if each.is_file() and _is_wanted(each.name, path)}
    _require(files.keys(), [each.name for each in folder.iterdir()], str(path))
    named = {_standard(name, path): _sha256(file) for name, file in files.items()}

    def lay_out(target: Path) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        for name, file in files.items():
            copyfile(file, target / _standard(name, path))
        return target

    there = {_standard(name, path): file for name, file in files.items()}
    return Base(str(path), digest_of(named), lay_out, lambda name: there[name].read_bytes() if name in there else None)


def _in_bucket(uri: str) -> Base:
    bucket = open_bucket(uri, settings().s3_endpoint)
    assert isinstance(bucket, S3Bucket)
    listed = {each.name: each for each in bucket.listing("") if "/" not in each.name}
    files = {name: each for name, each in listed.items() if _is_wanted(name, Path("folder"))}
    _require(files.keys(), list(listed), uri)

    def lay_out(target: Path) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        for name in files:
            bucket.fetch(name, target / name)
        return target

    return Base(uri, digest_of({name: [each.etag, each.size] for name, each in files.items()}), lay_out)


def _registered(reference: str) -> Base:
    """A Version of ours, by alias or number, as the ledger and the store know it."""
    name, _, which = reference.rpartition("@")
    ledger = Ledger(settings().ledger_url)
    number = (
        int(which)
        if which.isdigit()
        else {"champion": ledger.champion, "previous": ledger.previous}.get(which, lambda _: None)(name)
    )
    version = registered(name, number)
    if version is None:
        raise Missing("E-REG-MISSING", f"registry://{reference}: no such version; `vernal explain {name}` lists them")
    bundle = stages.by_digest("package", Bundle, version.bundle)

    def read(name: str) -> bytes | None:
        return stages.artifacts().read(bundle.files[name].digest) if name in bundle.files else None

    place = f"registry://{name}@{number}"
    return Base(place, bundle.digest, lambda folder: stages.checkout(bundle.files, folder), read)


def registered(name: str, number: int | None) -> Version | None:
    """The record of a version, found through its manifest."""
    for record in stages.every("register", Version):
        if record.name == name and record.number == number:
            return record
    return None


def _downloaded(name: str, revision: str, folder: Path) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    patterns = [*WANTED, *(f"*{suffix}" for suffix in WEIGHTS)]
    try:
        snapshot_download(name, revision=revision, allow_patterns=patterns, local_dir=folder)
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        message = f"hf://{name}@{revision}: {type(error).__name__}; is the hub reachable, and the revision right?"
        raise Unreachable("E-HUB-UNAVAILABLE", message) from error
    rmtree(folder / ".cache", ignore_errors=True)  # the downloader's notes, with times in them
    names = [each.name for each in folder.iterdir()]
    _require(names, names, f"hf://{name}")
    return folder


def _is_wanted(name: str, path: Path) -> bool:
    if path.suffix == ".safetensors" and name.endswith(WEIGHTS):
        return name == path.name
    return name in WANTED or name.endswith(WEIGHTS)


def _standard(name: str, path: Path) -> str:
    return "model.safetensors" if name == path.name else name


def _require(names: Collection[str], there: list[str], where: str) -> None:
    if any(name.endswith(".safetensors") for name in names) and "config.json" in names:
        return
    pickles = sorted(name for name in there if name.endswith(PICKLES))
    if pickles:
        raise BadInput(
            "E-MODEL-FORMAT",
            f"{where}: found {', '.join(pickles[:3])} and no safetensors; such files can run code when they are read; "
            "convert the weights to safetensors",
        )
    missing = "config.json" if "config.json" not in names else "model.safetensors"
    raise BadInput("E-MODEL-FORMAT", f"{where}: {missing} is missing; wanted a Hugging Face directory with safetensors")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
