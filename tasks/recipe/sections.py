"""The sections of a recipe, one for each step of the data's way: every dial with its meaning, bounds and default."""

import re
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    JsonValue,
    StringConstraints,
    Tag,
)

from tasks import problems
from tasks.metrics.marks import LOWER
from tasks.problems import Problem
from tasks.recipe.clocks import checked_cron, checked_rule, checked_zone
from tasks.records import Digest, canonical, digest_of


def known_task(value: str) -> str:
    """A task that has a file in `tasks/problems`."""
    problems.named(value)
    return value


Task = Annotated[str, AfterValidator(known_task)]
Metric = str
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Column = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]{1,128}$")]
Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]

_LOCATION = re.compile(r"^(?:[a-z0-9+.-]+://)?[^\x00-\x1f\x7f]+$")
_REVISION = re.compile(r"[0-9a-f]{40}")


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


def checked_location(value: str) -> str:
    """A source or base that may be named in a recipe: a path, s3://, hf://name@revision, registry://name@alias or mlflow://."""
    scheme, found, rest = value.partition("://")
    if not _LOCATION.match(value) or not value.strip():
        raise ValueError("a path or URL without control characters")
    if not found:
        return value
    host, path, _ = rest.partition("/")
    if ":" in host or ("@" in host and (path or scheme == "s3")):
        raise ValueError("no credentials or port inside a URL: they belong into the environment (value not shown)")
    if scheme not in ("s3", "hf", "registry", "mlflow"):
        wanted = "a path, s3://bucket/prefix, hf://name@revision, registry://name@alias or mlflow://name/version"
        raise ValueError(f"{wanted} instead of {scheme}:// (value not shown)")
    if scheme == "hf" and not _REVISION.fullmatch(rest.rpartition("@")[2]):
        raise ValueError("a pinned revision: hf://name@ followed by the 40 hex digits of a commit")
    if scheme == "mlflow" and not re.fullmatch(r"[^/@:]+(/\d+|@[^/@:]+)", rest):
        raise ValueError("mlflow://name/version or mlflow://name@alias")
    if ".." in rest.split("/"):
        raise ValueError("no '..' inside a URL")
    return value


def checked_weights(value: str) -> str:
    """A location of weights alone: a path or s3://."""
    if not checked_location(value).startswith("s3://") and "://" in value:
        raise ValueError("a path or s3://bucket/name")
    return value


def checked_config(value: dict[str, Any]) -> dict[str, Any]:
    """Arguments that a digest can be made of."""
    try:
        digest_of(value)
    except ValueError as error:
        raise ValueError("finite numbers, texts, booleans, lists and mappings") from error
    return value


Location = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(checked_location)]
Weights = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(checked_weights)]
Module = Annotated[str, StringConstraints(pattern=r"^(?:[\w-]+/)*[A-Za-z_]\w*\.py$|^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$")]
Plain = Annotated[dict[str, JsonValue], AfterValidator(checked_config)]
Cron = Annotated[str, AfterValidator(checked_cron)]
Rule = Annotated[str, AfterValidator(checked_rule)]
Zone = Annotated[str, AfterValidator(checked_zone)]
Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,63}$")]
Pool = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,63}$")]
Image = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9._/:@-]{0,254}$")]
Block = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]

OPERATED = frozenset({"schedule", "triggers", "work"})  # sections that can change neither weights nor verdict


def _form(value: Any) -> str:
    return "·text" if isinstance(value, str) else "·mapping"


# a value that is either a text or a mapping; an error names the faults of the form that was found
Text = Tag("·text")
Mapped = Tag("·mapping")
ByForm = Discriminator(_form)


class Files(Section):
    """One location for each split."""

    train: Location
    validation: Location | None = None
    test: Location | None = None


class SplitBy(Section):
    by: Literal["auto", "given", "stratified", "group", "time"] = Field(
        "auto", description="auto: the splits that the source names, else stratified by label"
    )
    validation: Share = Field(0.1, description="share of rows, where validation is not given")
    test: Share = Field(0.1, description="share of rows, where test is not given")
    seed: Seed = 0


class Data(Section):
    """Where rows come from; any other key names the column of a role that the task knows, such as `text: message`."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Column]

    source: Annotated[Annotated[Location, Text] | Annotated[Files, Mapped], ByForm] = Field(
        description="file, folder, glob, s3://, hf://name@revision, or one for each split"
    )
    time: Column | None = Field(None, description="column of an ISO 8601 time or date")
    group: Column | None = Field(None, description="column whose equal values stay in one split")
    split: SplitBy = SplitBy()

    def columns(self, problem: Problem) -> dict[str, str]:
        """The column of each role; without a word of the recipe it bears the role's name."""
        return {role: self.__pydantic_extra__.get(role, role) for role in problem.roles}


class Rules(Section):
    """What a row and a dataset must satisfy."""

    bad_rows: float = Field(0.01, ge=0, le=1, description="share of faulty rows above which the dataset is refused")
    min_per_class: int = Field(2, ge=1, description="training rows that every label must have")
    max_labels: int = Field(1000, ge=2, le=100_000)
    max_characters: int = Field(100_000, ge=1, description="longest text; longer rows are quarantined")
    labels: tuple[str, ...] | None = Field(None, description="the label set; none: what the rows name")
    duplicates: Literal["drop", "keep"] = Field("drop", description="exact repetitions inside one split")
    leaks: Literal["drop", "refuse", "keep"] = Field(
        "drop", description="training rows that (nearly) stand in validation or test: drop them, or refuse the dataset"
    )
    similarity: float = Field(
        0.9, gt=0, le=1, description="Jaccard similarity of word 3-grams from which rows are near-duplicates; 1: exact"
    )


class TrainedTokenizer(Section):
    train: Literal["bpe", "wordpiece", "unigram", "byte-bpe"] = Field(
        description="byte-bpe loses no blank and knows every character: for models that write"
    )
    vocabulary: int = Field(8000, ge=64, le=1_000_000)
    lowercase: bool = True


class Tokens(Section):
    length: int = Field(
        128, ge=4, le=131_072, description="tokens of a row, special ones included; the rest is cut off"
    )
    tokenizer: Annotated[Annotated[Literal["base"], Text] | Annotated[TrainedTokenizer, Mapped], ByForm] = Field(
        "base", description="the base model's own, or one trained on the training rows"
    )


class Architecture(Section):
    """A Transformer built from its config, weights drawn at random."""

    architecture: Literal["encoder", "decoder", "encoder-decoder"]
    num_layers: int = Field(4, ge=1, le=128, description="of each stack")
    d_model: int = Field(256, ge=8, le=16_384, description="width of the hidden states")
    num_heads: int = Field(4, ge=1, le=256)
    dff: int | None = Field(None, ge=8, le=65_536, description="width of the feed-forward layer; none: 4 d_model")
    dropout: float = Field(0.1, ge=0, lt=1)
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    glu: bool = Field(True, description="gated feed-forward layers: three matrices instead of two")
    norm: Literal["pre", "post"] = Field("pre", description="in front of attention and feed-forward layer, or behind")
    positions: Literal["rotary", "learned", "sinusoidal", "none"] = "rotary"
    tie_embeddings: bool = Field(True, description="one table for input, target and logits")


class Own(Section):
    """A module of the user's own; what it must be like stands in `tasks.model.own`."""

    model_config = ConfigDict(serialize_by_alias=True)

    module: Module = Field(description="a .py file beside the recipe, or the dotted name of an installed module")
    class_: str = Field(alias="class", pattern=r"^[A-Za-z_]\w*$")
    config: Plain = Field(default_factory=dict, description="keyword arguments of the class")
    weights: Weights | None = Field(
        None, description=".safetensors or a state dict, its tokenizer beside it; none: drawn by the seed"
    )


def _base_form(value: Any) -> str:
    own = isinstance(value, Own) or (isinstance(value, dict) and "module" in value)
    return "·own" if own else _form(value)


class Model(Section):
    base: Annotated[
        Annotated[Location, Text] | Annotated[Architecture, Mapped] | Annotated[Own, Tag("·own")],
        Discriminator(_base_form),
    ] = Field(
        description="folder, file of weights, s3://, hf://name@revision, registry://name@alias, mlflow://name/version, "
        "an architecture, or a module of one's own"
    )


class Train(Section):
    method: Literal["full"] = "full"
    epochs: int = Field(3, ge=1, le=10_000)
    batch: int = Field(32, ge=1, le=65_536, description="rows of one optimizer step")
    micro_batch: int | None = Field(None, ge=1, description="most rows computed at once; none: as the tokens allow")
    token_budget: int = Field(16_384, ge=1, description="most tokens computed at once; a batch of more comes in parts")
    top_layers: int | None = Field(
        None, ge=0, description="layers that learn, from the top, with the head; none: all and the embeddings"
    )
    optimizer: Literal["adamw", "adam", "sgd"] = Field(
        "adamw", description="adam: its decay is part of the gradient; sgd: with a momentum of 0.9"
    )
    learning_rate: float = Field(5e-5, gt=0, le=1)
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Share = Field(0.06, description="share of all steps in which the rate rises from 0")
    weight_decay: float = Field(0.01, ge=0, le=1)
    clip: float = Field(1.0, gt=0, description="largest global norm of the gradient")
    label_smoothing: Share = 0.0
    early_stopping: int = Field(2, ge=0, description="evaluations without a better metric before it ends; 0: never")
    metric: Metric | None = Field(
        None, description="what the best step is chosen by, on validation; none: the task's own, or loss"
    )
    max_rows: int | None = Field(None, ge=1, description="largest number of training rows, drawn by the seed")
    recompute: bool = Field(
        False, description="layers are computed again for their gradients: less memory for more time"
    )
    launch: Literal["here", "torchrun"] = Field("here", description="torchrun: in several processes of this host")
    processes: int | None = Field(None, ge=1, le=64, description="of torchrun; none: one a GPU")
    sharding: Literal["none", "full"] = Field(
        "none", description="full: each process of torchrun keeps a share of weights and moments, not all of them"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware computes in it"
    )
    seed: Seed = 0

    @property
    def decoupled(self) -> bool:
        """Whether weight decay, if there is any, stays out of gradient and moments (Loshchilov and Hutter 2019)."""
        return self.optimizer == "adamw" or not self.weight_decay


class Decoding(Section):
    """How a model writes; nothing is drawn, so that the same row has the same answer."""

    length: int = Field(128, ge=1, le=131_072, description="most tokens of an answer")
    beams: int = Field(1, ge=1, le=64, description="beginnings that are kept in sight; 1: always the likeliest token")
    length_penalty: float = Field(1.0, ge=-10, le=10, description="of beams: above 0, longer answers are preferred")
    no_repeat: int = Field(0, ge=0, le=64, description="so many tokens in a row never stand twice; 0: they may")


class Package(Section):
    precision: Literal["fp32", "bf16"] = Field("fp32", description="numbers in which the weights are stored and served")
    golden: int = Field(8, ge=1, le=64, description="validation rows kept with their outputs as a self-test")
    decoding: Decoding = Decoding()


class Exam(Section):
    metric: Metric | None = Field(None, description="the headline; none: the task's own")
    slices: tuple[Column, ...] = Field(("length",), description="columns, or `length`, to report scores by")


def _within(floors: dict[str, float]) -> dict[str, float]:
    """Floors of what is better when it is greater, which nothing of it exceeds."""
    if beyond := [
        f"{name} in 0..1, not {value:g}" for name, value in floors.items() if name not in LOWER and not 0 <= value <= 1
    ]:
        raise ValueError(", ".join(beyond))
    return floors


class Gate(Section):
    margin: float = Field(
        0.0, ge=0, lt=1, description="loss of the exam's metric that would be accepted, in score points"
    )
    confidence: float = Field(0.95, gt=0.5, lt=1)
    floors: Annotated[dict[str, float], AfterValidator(_within)] = Field(
        default_factory=dict, description="least value of a metric, or of f1_, precision_ or recall_per_class"
    )
    draws: int = Field(2000, ge=100, le=100_000, description="bootstrap resamples")
    seed: Seed = 0
    approval: float | None = Field(
        None,
        gt=0,
        le=8760,
        description="hours in which a person must approve what passed; none: nobody is asked",
        exclude_if=lambda hours: hours is None,  # digests of recipes that lack it stay
    )


class Schedule(Section):
    """A clock that starts runs; one of cron, interval and rrule."""

    cron: Cron | None = Field(None, description="minute hour day month weekday")
    interval: int | None = Field(None, ge=60, le=366 * 86_400, description="seconds, counted from a midnight")
    rrule: Rule | None = Field(None, description="recurrence rule of iCalendar")
    timezone: Zone = Field("UTC", description="where the clock hangs; it goes along with daylight-saving time there")
    slug: Slug | None = Field(None, description="name that it keeps when its time changes; none: made of its dials")
    set: Plain = Field(default_factory=dict, description="dials that its runs change, as `train.epochs: 6`")

    @property
    def name(self) -> str:
        """The slug, or one of what it says."""
        kind = "cron" if self.cron else "rrule" if self.rrule else "interval"
        return self.slug or f"{kind}-{digest_of(self.model_dump(mode='json'))[7:15]}"


class Drift(Section):
    """Inputs that are not what they were."""

    psi: float = Field(0.25, gt=0, le=100, description="population stability index from which it is one")


class Decay(Section):
    """A live model that does worse than it did."""

    metric: Metric
    below: float = Field(description="value under which it is one")


class Triggers(Section):
    """Evidence that starts runs: events about the model, and a look at its source."""

    new_rows: int = Field(1, ge=1, description="rows that make a run worth it, by size; 1: whatever changed")
    poll: Annotated[Annotated[Cron, Text] | Annotated[Annotated[int, Field(ge=10)], Mapped], ByForm] | None = Field(
        None, description="how often to look at the source: seconds, or a cron in UTC; none: when an event says so"
    )
    debounce: int = Field(60, ge=1, le=86_400, description="seconds in which many events of a kind are one")
    drift: Drift | None = None
    decay: Decay | None = None
    cooldown: int = Field(86_400, ge=0, description="seconds from a run for drift or decay to the next one for it")


class Work(Section):
    """Who does the work of scheduled and triggered runs."""

    pool: Pool = Field("local", description="Prefect work pool; made if it is not there")
    queue: Pool = "default"
    type: Literal["process", "docker", "kubernetes"] = "process"
    image: Image | None = Field(None, description="of docker and kubernetes")
    notify: Block | None = Field(
        None, description="Prefect block that hears of failures and refusals: type/name, as slack-webhook/on-call"
    )


class Recipe(Section):
    """One model's whole way, from its data to the gate; and when and where to go it."""

    name: Name = Field(description="name of the model in the registry")
    task: Task
    data: Data
    rules: Rules = Rules()
    tokens: Tokens = Tokens()
    model: Model
    train: Train = Train()
    package: Package = Package()
    exam: Exam = Exam()
    gate: Gate = Gate()
    schedule: tuple[Schedule, ...] = ()
    triggers: Triggers | None = None
    work: Work = Work()

    @cached_property
    def digest(self) -> Digest:
        """SHA-256 of the canonical recipe, defaults included; when and where it runs is no part of it."""
        return digest_of(self.content)

    @property
    def content(self) -> dict[str, Any]:
        """What decides about weights and verdict, as JSON."""
        return self.model_dump(mode="json", exclude=set(OPERATED))

    def changed(self, changes: dict[str, Any]) -> "Recipe":
        """The content with other dials, each as `section.key`; the same checks, the rest not taken along."""
        values = self.content
        for dotted, value in changes.items():
            *sections, key = dotted.split(".")
            inner = values
            for section in sections:
                inner = inner.get(section) if isinstance(inner, dict) else None  # type: ignore[assignment]
            if not isinstance(inner, dict) or dotted == "name" or dotted.partition(".")[0] in OPERATED:
                raise ValueError(f"a dial of the recipe's content instead of {dotted!r:.60}")
            inner[key] = value
        return Recipe.model_validate_json(canonical(values))

    @property
    def problem(self) -> Problem:
        """What the task is."""
        return problems.named(self.task)

    @property
    def metric(self) -> Metric:
        """The headline metric of exam and gate."""
        return self.exam.metric or self.problem.metrics[0]
