"""Where a base model is, and what tells it from another: light enough for `vernal check`.

A base is named by folder, by a file of weights with its config beside it, by `s3://`, by `hf://name@revision`, by
`registry://name@alias`, by `mlflow://NAME/VERSION`, or it is an architecture, which has no files. Weights are
safetensors; where there are none, PyTorch's state dicts, which `load` turns into safetensors.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shutil import copyfile, rmtree
from tempfile import TemporaryDirectory

from infra.ledger import Ledger
from infra.settings import settings
from infra.storage import S3Bucket, open_bucket
from tasks import recipe, stages
from tasks.data import sources
from tasks.data.readers import hub
from tasks.errors import BadInput, Missing
from tasks.model import modules
from tasks.model.curves import registry
from tasks.records import Bundle, Digest, Version, digest_of

WANTED = ("config.json", "generation_config.json", *stages.TOKENIZER_FILES)
WEIGHTS = (".safetensors", ".safetensors.index.json")
TORCH = (".pt", ".pth", ".bin", ".ckpt")
STATE_DICT = "pytorch_model.bin"
STATE_DICTS = re.compile(r"pytorch_model(-\d{5}-of-\d{5})?\.bin")
ELSEWHERE = {  # weights of other libraries, and how they become safetensors
    ".h5": "with transformers 4: AutoModel.from_pretrained(folder, from_tf=True).save_pretrained(folder)",
    ".msgpack": "with transformers 4: AutoModel.from_pretrained(folder, from_flax=True).save_pretrained(folder)",
    ".gguf": "AutoModel.from_pretrained(folder, gguf_file=name).save_pretrained(folder)",
    ".onnx": "an export does not lead back: take the model that it was exported from",
}


@dataclass(frozen=True)
class Base:
    """A base model before it is read: its fingerprint, and how to lay its files out in a folder."""

    name: str
    fingerprint: Digest | None  # None: an architecture
    lay_out: Callable[[Path], Path]
    read: Callable[[str], bytes | None] = lambda _: None  # a small file; None: not there, or not without a download
    module: modules.Source | None = None  # of the user's own
    ours: bool = False  # it was made by a recipe, whose author named the code in it, if there is any


def resolve(model: recipe.Model, beside: Path) -> Base:
    """The base that a recipe names.

    Raises:
        Missing: E-MODEL-MISSING, E-REG-MISSING or E-MLFLOW-MISSING.
        BadInput: E-MODEL-FORMAT, there is nothing to be read safely; E-MODEL-MODULE, a module is not there.
    """
    if isinstance(model.base, recipe.Own):
        return _own(model.base, beside)
    if not isinstance(model.base, str):
        return Base("architecture", None, lambda folder: folder)
    scheme, _, rest = model.base.partition("://")
    if scheme == "registry":
        return _registered(rest)
    if scheme == "hf":
        name, _, revision = rest.rpartition("@")
        return Base(model.base, digest_of([name, revision]), lambda folder: _downloaded(name, revision, folder))
    if scheme == "mlflow":
        return _in_mlflow(rest)
    where = sources.locate(model.base, beside, settings().models_root)
    return in_bucket(where) if where.startswith("s3://") else in_folder(Path(where))


def _own(own: recipe.Own, beside: Path) -> Base:
    """A module of the user's own, with its weights if they are named."""
    source, weights = modules.find(own.module, beside), None
    if own.weights:
        where = sources.locate(own.weights, beside, settings().models_root)
        weights = in_bucket(where, bare=True) if where.startswith("s3://") else in_folder(Path(where), bare=True)

    def lay_out(target: Path) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        (target / modules.FILE).write_bytes(source.content)
        return weights.lay_out(target) if weights else target

    fingerprint = digest_of([source.digest, source.distribution, weights and weights.fingerprint])
    read = weights.read if weights else Base.read
    return Base(own.weights or own.module, fingerprint, lay_out, read, module=source)


def in_folder(path: Path, bare: bool = False) -> Base:
    """The base in a folder, or of one file of weights; `bare`: without a config."""
    folder = path if path.is_dir() else path.parent
    if not (path.is_dir() or path.suffix in (".safetensors", *TORCH)):
        message = f"{path} is no folder and no file of weights; name a Hugging Face directory, a .safetensors or a .pt"
        raise Missing("E-MODEL-MISSING", message)
    single = "" if path.is_dir() else path.name
    chosen = _chosen([each.name for each in sorted(folder.iterdir()) if each.is_file()], single, str(path), bare)
    there = {standard: folder / name for name, standard in chosen.items()}

    def lay_out(target: Path) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        for name, file in there.items():
            copyfile(file, target / name)
        return target

    fingerprint = digest_of({name: _sha256(file) for name, file in there.items()})
    return Base(str(path), fingerprint, lay_out, lambda name: there[name].read_bytes() if name in there else None)


def in_bucket(uri: str, bare: bool = False) -> Base:
    """The base below a prefix of S3, or of one object of weights; `bare`: without a config."""
    prefix, _, last = uri.rpartition("/")
    single = last if last.endswith((".safetensors", *TORCH)) else ""
    bucket = open_bucket(prefix if single else uri, settings().s3_endpoint)
    assert isinstance(bucket, S3Bucket)
    listed = {each.name: each for each in bucket.listing("") if "/" not in each.name}
    chosen = _chosen(list(listed), single, uri, bare)

    def lay_out(target: Path) -> Path:
        target.mkdir(parents=True, exist_ok=True)
        for name, standard in chosen.items():
            bucket.fetch(name, target / standard)
        return target

    fingerprint = digest_of({chosen[name]: [listed[name].etag, listed[name].size] for name in chosen})
    return Base(uri, fingerprint, lay_out)


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
    return Base(place, bundle.digest, lambda folder: stages.checkout(bundle.files, folder), read, ours=True)


def registered(name: str, number: int | None) -> Version | None:
    """The record of a version, found through its manifest."""
    for record in stages.every("register", Version):
        if record.name == name and record.number == number:
            return record
    return None


def _downloaded(name: str, revision: str, folder: Path) -> Path:
    """The files of a model on the Hub; it is asked first, since a download tries a Hub that is away for 24 s.

    Raises:
        Unreachable, Denied, Missing: E-HUB-UNAVAILABLE, E-HUB-AUTH, E-HUB-MISSING.
    """
    from huggingface_hub import HfApi, snapshot_download

    with hub.coded(name, "E-MODEL-FORMAT", "a folder"):
        HfApi().model_info(name, revision=revision, timeout=hub.TIMEOUT)
        for weights in ([f"*{suffix}" for suffix in WEIGHTS], ["pytorch_model*.bin"]):
            wanted = [*WANTED, *weights]
            snapshot_download(name, revision=revision, local_dir=folder, allow_patterns=wanted, ignore_patterns="*/*")
            if any(folder.glob("*.safetensors")):
                break
    rmtree(folder / ".cache", ignore_errors=True)  # the downloader's notes, with times in them
    _chosen([each.name for each in folder.iterdir()], "", f"hf://{name}")
    return folder


def _in_mlflow(reference: str) -> Base:
    """A version of a model in MLflow: the Hugging Face directory that lies somewhere in it, and nothing else of it."""
    there = registry()
    version = there.found(*re.split("[@/]", reference, maxsplit=1))

    def lay_out(target: Path) -> Path:
        with TemporaryDirectory() as temporary:
            everything = there.download(version, Path(temporary))
            models = [path.parent for path in sorted(everything.rglob("config.json")) if _has_weights(path.parent)]
            if len(models) != 1:
                message = f"mlflow://{reference}: found {len(models)} folders of config.json and weights, wanted one"
                raise BadInput("E-MODEL-FORMAT", f"{message}; log the model with mlflow.transformers")
            in_folder(models[0]).lay_out(target)
            for path in sorted(everything.rglob("*")):  # mlflow.transformers keeps the tokenizer elsewhere
                if path.name in stages.TOKENIZER_FILES and not (target / path.name).exists():
                    copyfile(path, target / path.name)
        return target

    return Base(f"mlflow://{version.name}/{version.number}", digest_of(list(version)), lay_out)


def _has_weights(folder: Path) -> bool:
    return any(path.suffix == ".safetensors" or STATE_DICTS.fullmatch(path.name) for path in folder.iterdir())


def _chosen(names: Sequence[str], single: str, where: str, bare: bool = False) -> dict[str, str]:
    """The files of a base among `names`, each with the name under which it is laid out.

    Args:
        single: the file of weights that was named; "": those of a whole folder.
        bare: weights and a tokenizer are enough.
    """
    weights = {name: name for name in names if name.endswith(WEIGHTS)}
    if single:
        weights = {single: "model.safetensors" if single.endswith(".safetensors") else STATE_DICT}
    elif not any(name.endswith(".safetensors") for name in weights):
        weights = {name: name for name in names if STATE_DICTS.fullmatch(name)}
    wanted = WANTED if not bare else stages.TOKENIZER_FILES
    lacking = [name for name in (() if bare else ("config.json",)) if name not in names]
    lacking += [] if weights and weights.keys() <= set(names) else [single or "model.safetensors"]
    if not lacking:
        return {name: name for name in names if name in wanted} | weights
    for suffix, how in ELSEWHERE.items():
        if found := next((name for name in names if name.endswith(suffix)), None):
            raise BadInput("E-MODEL-FORMAT", f"{where}: found {found} and no safetensors; convert the weights: {how}")
    if found := next((name for name in names if name.endswith(TORCH) and not single), None):
        raise BadInput("E-MODEL-FORMAT", f"{where}: found {found} and no safetensors; name the file that is meant")
    message = f"{where}: {lacking[0]} is missing; wanted a Hugging Face directory with safetensors or {STATE_DICT}"
    raise BadInput("E-MODEL-FORMAT", message)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
