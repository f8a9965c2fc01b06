"""What a problem has to say of itself, and what is handed to it.

A row is a mapping from roles to values. The kind of a role says what its column may hold, and with it how it is read,
stored, checked and compared:

    text      str         a text
    words     list[str]   a text that is split already
    label     str         one of the label set
    labels    list[str]   any number of the label set, none included
    tags      list[str]   one of the label set for each of the words
    number    float       finite
    texts     list[str]   several texts, such as the choices of a question
    place     int         the number of one of the texts, from 0
    spans     list[dict]  passages of a text: `text`, and `start`, the number of its first character
    turns     list[dict]  what was said one after another: `role`, who said it, and `content`
"""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks

Kind = Literal["text", "words", "label", "labels", "tags", "number", "texts", "place", "spans", "turns"]
Reads = Literal["rows", "tokens", "read"]
At = Literal["rows", "tokens", "none"]
Row = Mapping[str, Any]  # role -> value
Floats = npt.NDArray[np.floating[Any]]

NAMED: tuple[Kind, ...] = ("label", "labels", "tags")  # kinds whose values are of the label set


@dataclass(frozen=True)
class Prediction:
    """An answer with its score: the probability of a label, of each tag, of a text; of a number there is none."""

    answer: Any
    score: float | list[float] | None = None
    truncated: bool = False  # whether the model was not given all of the row
    least: float | None = None  # how probable the least certain of its decisions is, where it is made of several


class Answerer(Protocol):
    """A model with its tokenizer, as a problem asks it for answers."""

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def encoder(self) -> Encoder: ...

    @property
    def format(self) -> int:
        """Of its bundle."""
        ...

    @property
    def room(self) -> int:
        """Tokens of a row that are left for what goes on from it."""
        ...

    def outputs(self, encoded: Encoded) -> list[Floats]:
        """What the head says of each sequence: (outputs,), or (tokens, outputs) where it reads every token."""
        ...

    def likelihoods(self, encoded: Encoded) -> Floats:
        """How probable the labels of each sequence are, (sequences, 3): sum of -ln p, labels, and those told right."""
        ...

    def generated(self, encoded: Encoded) -> list[str]:
        """What is written for each row, or goes on from it."""
        ...


class Objective:
    """What a model is trained for, as far as the loop has to know: by itself one label a row, of however many."""

    at: ClassVar[At] = "rows"  # where labels stand; none: targets have them
    reads: ClassVar[Reads] = "rows"  # of what the head makes outputs: rows; all tokens; those that have a label
    loss: ClassVar[str] = "cross_entropy"  # of tasks.model.losses
    corrupted: ClassVar[bool] = False  # whether it is to tell tokens that are hidden from it

    def reduced(self, logits: Any, batch: Any) -> Any:
        """What validation keeps of the outputs of a batch (..., outputs), tensors both: the number of the largest."""
        return logits.argmax(-1)


class Problem(Objective, ABC):
    """A kind of problem; its file defines a subclass, and an instance of it as `PROBLEM`."""

    inputs: ClassVar[Mapping[str, Kind]]  # roles that a model is given; the default column bears the role's name
    answers: ClassVar[Mapping[str, Kind]] = {}  # roles that it is to tell; none: it is to tell the inputs themselves
    head: ClassVar[str]  # Auto class of transformers
    grouped: ClassVar[bool] = False  # whether the sequences of a row belong together, or are rows to learn from each
    problem_type: ClassVar[str | None] = None  # as transformers' configs have it, for heads of several losses
    metrics: ClassVar[tuple[str, ...]]  # of the exam; the first is the headline
    generates: ClassVar[bool] = False  # whether its answers are written token after token
    reveals: ClassVar[bool] = False  # whether an exam asks how probable the truth is, and so has to show it

    @cached_property
    def roles(self) -> dict[str, Kind]:
        """All roles of a row, inputs first."""
        return {**self.inputs, **self.answers}

    @cached_property
    def labelled(self) -> bool:
        """Whether its answers are of a label set, each of which has a precision and a recall."""
        return any(kind in NAMED for kind in self.answers.values())

    @cached_property
    def tagged(self) -> bool:
        """Whether it answers word by word."""
        return "tags" in self.answers.values()

    @property
    def watched(self) -> tuple[str, ...]:
        """The metrics that validation tells while a model learns; the first tells the best step."""
        return self.metrics

    def fault(self, row: Row) -> str | None:
        """What is wrong with a row although each of its values is right by itself."""
        return None

    def said(self, row: Row) -> Iterable[str]:
        """The texts of a row that a model is given."""
        for role, kind in self.inputs.items():
            yield from texts_of(row[role], kind)

    def told(self, row: Row) -> Iterable[str]:
        """The answers of a row, as texts."""
        for role, kind in self.answers.items():
            yield from texts_of(row[role], kind)

    def columns(self, rows: Sequence[Row], *, answered: bool) -> dict[str, Any]:
        """Rows as columns of Arrow, with their answers or without."""
        import pyarrow as pa

        roles = self.roles if answered else self.inputs
        return {role: pa.array([row[role] for row in rows], stored(kind)) for role, kind in roles.items()}

    def posed(self, row: Row, labels: tuple[str, ...]) -> tuple[str, dict[str, Any]] | None:
        """A row as a language model can be asked: a prompt, and texts that may follow, each with the answer that it is.

        None: its answers cannot be listed.
        """
        return None

    def outputs(self, labels: tuple[str, ...]) -> int:
        """How many outputs the head has."""
        return len(labels)

    def given(self, model: Answerer, rows: Sequence[Row]) -> Encoded:
        """Rows as the model reads them, without their answers."""
        return self.encode(self.columns(rows, answered=False), model.encoder, None)

    @abstractmethod
    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        """Rows as tokens, and their answers as the loss wants them.

        Args:
            rows: role -> pyarrow array; without the answers where `labels` is None.
            labels: the label set, each with its number.
        """

    @abstractmethod
    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        """The model's answer to each row."""

    def asked(self, row: Row) -> dict[str, Any]:
        """What an exam shows of a row."""
        return {role: row[role] for role in (self.roles if self.reveals else self.inputs)}

    def examined(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        """What the model answers in an exam, if that is not what it answers otherwise."""
        return self.answer(model, rows)

    def truth(self, row: Row) -> Any:
        """What the answer should have been."""
        (role,) = self.answers
        return row[role]

    @abstractmethod
    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        """What the answers earn."""

    def watch(self, loss: float, kept: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> dict[str, float]:
        """The metrics of validation, from its mean loss and what was kept of each row, or token, of the shard."""
        truth, answers = (self.decoded(ids, shard, labels) for ids in (shard.labels, kept))
        marks = self.marks(truth, answers, labels)
        return {metric: float(marks.score(metric)) for metric in self.watched}

    def decoded(self, ids: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> Sequence[Any]:
        """Answers from what validation kept of each row, or token; and from the labels of the shard."""
        return [labels[each] for each in ids]

    def report(self, truth: Sequence[Any], answers: Sequence[Any]) -> str:
        """What people read of the answers: a table in plain text."""
        marks = self.marks(truth, answers, ())
        return "".join(f"{metric:<20} {float(marks.score(metric)):10.4f}\n" for metric in self.metrics)

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        """Answers to `rows` that cost no model: name of the baseline -> answers; `train` is read once, if at all."""
        return {}


PLAIN = Objective()


def stored(kind: Kind) -> Any:
    """The type of Arrow in which values of a kind are kept."""
    import pyarrow as pa

    text = pa.string()
    single = {"text": text, "label": text, "number": pa.float64(), "place": pa.int64()}
    parts = {"spans": {"text": text, "start": pa.int64()}, "turns": {"role": text, "content": text}}
    if kind in parts:
        return pa.list_(pa.struct(parts[kind]))
    return single.get(kind) or pa.list_(text)


def texts_of(value: Any, kind: Kind) -> list[str]:
    """The texts in a value."""
    if kind in ("text", "label"):
        return [value]
    if kind in ("number", "place"):
        return [str(value)]
    if kind in ("spans", "turns"):
        return [part["text" if kind == "spans" else "content"] for part in value]
    return list(value)


def most_common(values: Iterable[Any]) -> Any:
    """The value that stands most often; of several the smallest."""
    found, _ = max(sorted(Counter(values).items()), key=lambda each: each[1])
    return found


def largest(scores: Any, sizes: Sequence[int] | npt.NDArray[np.integer[Any]]) -> Any:
    """The place of the largest in each of the parts, (parts, k), of scores (the sizes of parts in all, k); tensors."""
    from torch.nn.utils.rnn import pad_sequence

    parts = scores.split(np.asarray(sizes).tolist())
    return pad_sequence(parts, batch_first=True, padding_value=float("-inf")).argmax(1)
