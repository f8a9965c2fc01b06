"""What travels between tasks. Read this file first.

A record says what it stands for (`digest`: SHA-256 over its files and numbers) and what it was made from (`parents`:
digests again). Rows, tokens and weights never travel: the next task fetches them by digest from the store.
So a record is a few hundred bytes of readable JSON, and lineage is a walk over `parents`.

    Snapshot -> Checked -> Shards ─┐
    Checkpoint ────────────────────┴-> Checkpoint -> Bundle -> Report -> Version -> Verdict
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Digest = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Split = str  # "train", "validation" or "test"


def canonical(value: Any) -> bytes:
    """The one JSON spelling of a value: sorted keys, no spaces, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def digest_of(value: Any) -> Digest:
    """SHA-256 of the canonical JSON of `value`."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


class File(BaseModel):
    """Bytes in the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: Digest
    size: int = Field(ge=0, description="bytes")


class Record(BaseModel):
    """What a stage made: named files, by digest, and the digests it was made from."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: Digest
    parents: tuple[Digest, ...] = ()
    files: dict[str, File]

    @classmethod
    def of(cls, files: Mapping[str, File], **fields: Any) -> Self:
        """A record over `files` and `fields`; its digest covers both, but not the parents."""
        bare = cls(digest="sha256:" + "0" * 64, files=dict(files), **fields)
        return bare.model_copy(
            update={"digest": digest_of(bare.model_dump(mode="json", exclude={"digest", "parents"}))}
        )


class Snapshot(Record):
    """The rows of a source as they were at one moment: `rows.parquet`, `quarantine.jsonl`.

    rows + quarantined = rows read.
    """

    rows: int = Field(ge=0)
    quarantined: int = Field(ge=0)
    inputs: dict[str, str] = Field(description="name of each source file -> fingerprint of its content")


class Checked(Record):
    """A Snapshot that kept every rule: `train.parquet`, `validation.parquet`, `test.parquet`, `quarantine.jsonl`,
    `profile.json`. `tokenise` takes nothing less, so no run can skip the checks.

    `quarantine.jsonl` begins with the Snapshot's lines, and `quarantined` counts these too:
    sum of rows + quarantined = rows + quarantined of the Snapshot = rows read.
    """

    rows: dict[Split, int]
    quarantined: int = Field(ge=0)
    labels: tuple[str, ...] = Field(description="label names; their order is their id")


class Shards(Record):
    """Tokenised rows: for each split a flat token array with offsets and labels, and the tokenizer's files."""

    rows: dict[Split, int]
    tokens: dict[Split, int]
    truncated: dict[Split, float] = Field(description="share of rows cut at the length limit, 0..1")
    vocabulary: int = Field(gt=0)
    labels: tuple[str, ...]
    length: int = Field(gt=0, description="longest row in tokens that the model will see")


class Checkpoint(Record):
    """A model as a Hugging Face directory; without `model.safetensors`, an architecture still to be initialised."""

    architecture: str = Field(description="model_type of its config")
    parameters: int = Field(ge=0, description="0: not initialised yet")
    tokenizer: Digest | None = Field(default=None, description="digest of its tokenizer files")
    length: int | None = Field(default=None, description="longest row in tokens that it takes; None: no limit")
    steps: int = Field(default=0, ge=0, description="optimizer steps trained by us")
    computed: str = Field(default="", description="how those steps were computed: rows packed or padded, arithmetic")
    scores: dict[str, float] = Field(default_factory=dict, description="validation metrics of the kept step")


class Bundle(Record):
    """What is examined, registered and served: a Hugging Face directory, `bundle.json` and golden inputs."""

    task: str
    labels: tuple[str, ...]
    precision: str
    bytes_total: int = Field(ge=0)


class Report(Record):
    """How a Bundle did in the exam: metrics, per-row predictions, pictures."""

    rows: int = Field(ge=0)
    metric: str
    scores: dict[str, float]


class Version(Record):
    """A registered Bundle: name and number in the registry, with its model card."""

    name: str
    number: int = Field(gt=0)
    bundle: Digest
    report: Digest


class Verdict(Record):
    """Whether a challenger goes live, and why: the gain over the champion on the same rows with its interval."""

    name: str
    version: int
    promoted: bool
    metric: str
    champion: int | None = Field(description="version it was compared with; None: there was no champion")
    gain: float | None = Field(description="metric of the challenger minus that of the champion, in score points")
    low: float | None = Field(description="lower end of the gain's interval")
    high: float | None = Field(description="upper end of the gain's interval")
    reasons: tuple[str, ...]
    pending: bool = Field(
        default=False, exclude_if=lambda pending: not pending, description="it waits for a person's word; never kept"
    )
