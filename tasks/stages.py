"""The stages: what makes each one new, and how its output comes to exist exactly once.

A stage's output exists only when its manifest does, and the manifest's name is the digest of everything that could
change the output: the verb, its VERSION, the digests it is made from and its own section of the recipe. Who finds the
manifest reuses it. The versions stand here and not in the verbs' files, because `vernal check` computes the names of
all stages without importing Prefect or torch (0.3 s instead of 6).
"""

import fcntl
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Generic, TypeVar

from infra.settings import settings
from infra.storage import Store, open_store
from tasks import problems, recipe
from tasks.errors import Missing
from tasks.records import (
    Bundle,
    Checked,
    Checkpoint,
    Digest,
    File,
    Record,
    Report,
    Shards,
    Snapshot,
    Verdict,
    Version,
    canonical,
    digest_of,
)

R = TypeVar("R", bound=Record)

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
)

REUSED = ContextVar("reused", default=False)  # whether the stage that was asked for last was there already
ATTEMPT = uuid.uuid4().hex  # which process made an output; tells a reused stage from a new one


@dataclass(frozen=True)
class Key(Generic[R]):
    """Everything that could change a stage's output, and the name of its manifest."""

    verb: str
    version: int
    record: type[R]
    parents: tuple[Digest, ...]
    section: dict[str, Any]

    @property
    def digest(self) -> Digest:
        return digest_of([self.verb, self.version, self.parents, self.section])

    @property
    def name(self) -> str:
        return f"{self.verb}/{self.digest.removeprefix('sha256:')}"


def ingest(source: Digest, task: recipe.Task, data: recipe.Data) -> Key[Snapshot]:
    columns = {**data.columns(problems.named(task)), "time": data.time, "group": data.group}
    return Key("ingest", 3, Snapshot, (source,), {"task": task, "data": columns})


def validate(snapshot: Snapshot, task: recipe.Task, data: recipe.Data, rules: recipe.Rules) -> Key[Checked]:
    section = {"task": task, "split": _dump(data.split), "rules": _dump(rules)}
    return Key("validate", 4, Checked, (snapshot.digest,), section)


def load(source: Digest | None, model: recipe.Model) -> Key[Checkpoint]:
    architecture = None if isinstance(model.base, str) else model.base.model_dump(mode="json", exclude={"weights"})
    return Key("load", 2, Checkpoint, (source,) if source else (), {"architecture": architecture})


def tokenise(checked: Checked, base: Checkpoint, task: recipe.Task, tokens: recipe.Tokens) -> Key[Shards]:
    own: tuple[Digest, ...] = (base.tokenizer,) if tokens.tokenizer == "base" and base.tokenizer else ()
    if own and problems.named(task).reads == "read":
        own += (base.files["config.json"].digest,)  # says which tokens begin and end a text
    return Key("tokenise", 4, Shards, (checked.digest, *own), {"task": task, "tokens": _dump(tokens)})


def finetune(base: Checkpoint, shards: Shards, task: recipe.Task, train: recipe.Train) -> Key[Checkpoint]:
    return Key("finetune", 5, Checkpoint, (base.digest, shards.digest), {"task": task, "train": _dump(train)})


def package(
    trained: Checkpoint, shards: Shards, checked: Checked, task: recipe.Task, how: recipe.Package
) -> Key[Bundle]:
    parents = (trained.digest, shards.digest, checked.digest)
    return Key("package", 3, Bundle, parents, {"task": task, "package": _dump(how)})


def evaluate(bundle: Bundle, checked: Checked, metric: recipe.Metric, exam: recipe.Exam) -> Key[Report]:
    section = {"metric": metric, "slices": list(exam.slices)}
    return Key("evaluate", 5, Report, (bundle.digest, checked.digest), section)


def register(name: str, bundle: Bundle, report: Report) -> Key[Version]:
    return Key("register", 1, Version, (bundle.digest, report.digest), {"name": name})


def promote(version: Version, checked: Checked, metric: recipe.Metric, gate: recipe.Gate) -> Key[Verdict]:
    section = {"metric": metric, "gate": _dump(gate)}
    return Key("promote", 3, Verdict, (version.digest, checked.digest), section)


def _dump(section: recipe.Section) -> dict[str, Any]:
    return section.model_dump(mode="json")


@cache
def artifacts() -> Store:
    """The artifact store that the settings name."""
    return open_store(settings().store_uri, settings().cache, settings().s3_endpoint)


def find(key: Key[R]) -> R | None:
    """The record of a finished stage whose files are all there, or None."""
    manifest = artifacts().read_manifest(key.name)
    if manifest is None:
        return None
    record = key.record.model_validate(manifest["record"])
    return record if all(artifacts().has(file.digest) for file in record.files.values()) else None


def every(verb: str, record: type[R]) -> Iterator[R]:
    """The records of all finished stages of a verb."""
    for name in artifacts().manifests(f"{verb}/"):
        manifest = artifacts().read_manifest(name)
        if manifest is not None:
            yield record.model_validate(manifest["record"])


def by_digest(verb: str, record: type[R], digest: Digest) -> R:
    """The record of a verb that has this digest.

    Raises:
        Missing: E-REG-MISSING, no finished stage of the store made it.
    """
    named = artifacts().read_manifest(_by_digest(verb, digest))
    manifest = artifacts().read_manifest(named["stage"]) if named else None
    if manifest is not None:
        return record.model_validate(manifest["record"])
    for each in every(verb, record):  # made before stages were found by what they made
        if each.digest == digest:
            return each
    raise Missing(
        "E-REG-MISSING",
        f"the record of {verb} {digest} is not in {artifacts().uri}; is it the store that made it?",
    )


def made(key: Key[Any]) -> dict[str, Any]:
    """How a finished stage came about: `seconds`, `reused` (by this process) and its `record`."""
    manifest = artifacts().read_manifest(key.name) or {}
    return {**manifest, "reused": manifest.get("attempt") != ATTEMPT}


def once(key: Key[R], make: Callable[[Path], R]) -> R:
    """The finished stage of this key, or what `make` makes in an empty folder of its own, committed manifest last."""
    found = find(key)
    REUSED.set(found is not None)
    if found:
        return found
    began, worked = time.monotonic(), _worked()
    with workplace(key.verb) as folder:
        record = make(folder)
    body = {
        "verb": key.verb,
        "version": key.version,
        "parents": list(key.parents),
        "section": key.section,
        "record": record.model_dump(mode="json"),
        "seconds": round(time.monotonic() - began, 3),
        "cpu_seconds": round(_worked() - worked, 3),
        "attempt": ATTEMPT,
    }
    artifacts().write_manifest(_by_digest(key.verb, record.digest), {"stage": key.name})
    artifacts().write_manifest(key.name, body)
    return key.record.model_validate_json(canonical(body["record"]))  # in the order in which another run will read it


def _by_digest(verb: str, digest: Digest) -> str:
    """The name of the manifest that says which stage made a record."""
    return f"record/{verb}/{digest.removeprefix('sha256:')}"


def _worked() -> float:
    """Seconds that processors worked for this process and for those that it started and saw end."""
    return sum(os.times()[:4])


def keep(folder: Path) -> dict[str, File]:
    """Every file below `folder`, put into the store: relative name -> File."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): put(path) for path in paths}


def put(source: Path | bytes) -> File:
    """Bytes, put into the store."""
    stored = artifacts().put(source)
    return File(digest=stored.digest, size=stored.size)


def open_file(file: File) -> Path:
    """A local, verified file with these bytes; not to be changed."""
    return artifacts().open(file.digest)


def checkout(files: dict[str, File], folder: Path) -> Path:
    """Files of a record laid out by name in `folder`, verified; not to be changed."""
    return artifacts().checkout({name: file.digest for name, file in files.items()}, folder)


def tokenizer_digest(files: dict[str, File]) -> Digest | None:
    """What tells one tokenizer from another among a model's files; None: there is none."""
    own = {name: file.digest for name, file in files.items() if name in TOKENIZER_FILES}
    return digest_of(own) if "tokenizer.json" in own else None


@contextmanager
def workplace(purpose: str) -> Iterator[Path]:
    """An empty folder for half-made things, gone afterwards; what killed processes left beside it goes now."""
    work = settings().work
    work.mkdir(parents=True, exist_ok=True)
    with ExitStack() as ours:
        with _locked(work, wait=True):
            for left in work.iterdir():
                with suppress(FileNotFoundError), _locked(left, wait=False) as abandoned:
                    if abandoned:
                        shutil.rmtree(left, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=work))
            ours.enter_context(_locked(folder, wait=True))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Whether we have the lock of a folder, which the system takes from a process that dies. NFS gives it to nobody."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            ours = True
        except OSError:
            ours = False
        yield ours
    finally:
        os.close(handle)
