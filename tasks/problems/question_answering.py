"""A question is answered by a passage of a text, or by none, if the text does not tell (Rajpurkar et al. 2016, 2018).

A text that is longer than the model reads comes in windows that overlap; each is a row to learn from, with the passage,
or with its first token, where the passage is not in it (Devlin et al. 2019, sections 4.2 and 4.3).
"""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tasks.encoding import Encoded, Encoder, Ints
from tasks.problems.contract import Answerer, Floats, Prediction, Problem, Row, largest
from tasks.problems.text_classification import softmax

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks

LONGEST = 50  # tokens of an answer; 99 of 100 of SQuAD's have 26 at most, of CMRC's 52


class QuestionAnswering(Problem):
    """Where in its text the answer begins and ends; an empty text, where nothing is there.

    While it learns, `span_f1` is the mean F1 of the tokens of windows' passages, `span_exact_match` the share of those
    that are right.
    """

    inputs = {"question": "text", "context": "text"}
    answers = {"answers": "spans"}
    head = "AutoModelForQuestionAnswering"
    reads = "tokens"
    loss = "span"
    metrics = ("f1", "exact_match")

    @property
    def watched(self) -> tuple[str, ...]:
        return ("span_f1", "span_exact_match")

    def fault(self, row: Row) -> str | None:
        for passage in row["answers"]:
            begin, end = _ends(passage)
            there = row["context"][max(0, begin) : max(0, end)]
            if there != passage["text"]:
                return f"answer {passage['text']!r:.40} is not at character {begin}, where {there!r:.40} stands"
        return None

    def outputs(self, labels: tuple[str, ...]) -> int:
        return 2

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        encoded = encoder.windows(rows["question"].to_pylist(), rows["context"].to_pylist())
        if labels is None:
            return encoded
        found: list[tuple[int, int]] = []
        for passages, windows in zip(rows["answers"].to_pylist(), _windows(encoded), strict=True):
            found += _places(windows, passages)
        return replace(encoded, labels=np.array(found, np.int32))

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        logits = iter(model.outputs(encoded))
        found = []
        for row, windows, cut in zip(rows, _windows(encoded), encoded.truncated, strict=True):
            best = max(_passage(next(logits), origin, row["context"]) for origin in windows)
            found.append(Prediction(best.text, best.chance, bool(cut)))
        return found

    def truth(self, row: Row) -> Any:
        return [passage["text"] for passage in row["answers"]]

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import answers as metrics

        return metrics.marks(truth, answers)

    def reduced(self, logits: Any, batch: Any) -> Any:
        return largest(logits, batch.lengths)

    def watch(self, loss: float, kept: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> dict[str, float]:
        (begin, end), (first, last) = kept.T, shard.labels.T
        common = np.maximum(0, np.minimum(end, last) - np.maximum(begin, first) + 1)
        f1 = 2 * common / (np.maximum(0, end - begin + 1) + last - first + 1)
        right = (begin == first) & (end == last)
        return {"span_f1": float(f1.mean()), "span_exact_match": float(right.mean())}

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        alike = [_likest(row["question"], row["context"]) for row in rows]
        return {"the sentence most like the question": alike, "no answer": [""] * len(rows)}


class Passage(NamedTuple):
    """What a window answers."""

    odds: float  # logarithm, of its best passage against none
    text: str
    chance: float


def _windows(encoded: Encoded) -> list[list[Ints]]:
    """The origin of the tokens of each window (tokens, 2), row by row."""
    assert encoded.origin is not None
    assert encoded.rows is not None
    origin = (encoded.origin[at] for at in encoded.spans())
    pairs = zip(encoded.rows, origin, strict=True)
    return [[window for _, window in each] for _, each in groupby(pairs, key=lambda pair: int(pair[0]))]


def _ends(passage: Mapping[str, Any]) -> tuple[int, int]:
    """Where a passage begins and ends in its text, in characters."""
    return passage["start"], passage["start"] + len(passage["text"])


def _places(windows: Sequence[Ints], passages: Sequence[Mapping[str, Any]]) -> list[tuple[int, int]]:
    """The first and the last token, in each window of a text, of the first passage that stands whole in it.

    (0, 0): there is none. A passage is whole with all the tokens that touch it: of spaces and of accents that the
    tokenizer drops there is no token.
    """
    text = np.concatenate(windows)
    found = [(0, 0)] * len(windows)
    for begin, end in map(_ends, reversed(passages)):
        if not len(there := _touched(text, begin, end)):
            continue
        whole = text[there].min(), text[there].max()
        for number, window in enumerate(windows):
            inside = _touched(window, begin, end)
            if len(inside) and (window[inside[0], 0], window[inside[-1], 1]) == whole:
                found[number] = int(inside[0]), int(inside[-1])
    return found


def _touched(origin: Ints, begin: int, end: int) -> Ints:
    """The tokens that have some of the characters from `begin` to `end`."""
    return np.flatnonzero((origin[:, 0] < end) & (origin[:, 1] > begin))


def _passage(logits: Floats, origin: Ints, context: str) -> Passage:
    """The best passage of a window, or none where that is more likely: logits (tokens, 2), origin (tokens, 2)."""
    nothing, chances = logits[0].sum(), softmax(logits.T)
    there = np.flatnonzero(origin[:, 0] >= 0)
    if not len(there):
        return Passage(-np.inf, "", float(chances[:, 0].prod()))
    begins, ends = logits[there].T
    ends = np.pad(ends, (0, LONGEST - 1), constant_values=-np.inf)
    scores = begins[:, None] + np.lib.stride_tricks.sliding_window_view(ends, LONGEST)  # (tokens, LONGEST)
    first, more = np.unravel_index(scores.argmax(), scores.shape)
    odds = float(scores[first, more] - nothing)
    if odds <= 0:
        return Passage(odds, "", float(chances[:, 0].prod()))
    first, last = there[first], there[first + more]
    text = context[origin[first, 0] : _marked(context, origin[last, 1])]
    return Passage(odds, text.strip(), float(chances[0, first] * chances[1, last]))


def _marked(context: str, end: int) -> int:
    """Where the accents end that belong to the character before `end`: a tokenizer may have dropped them."""
    while end < len(context) and unicodedata.category(context[end]) == "Mn":
        end += 1
    return end


def _likest(question: str, context: str) -> str:
    """The sentence that has most of the question's words, or characters."""
    from tasks.metrics.answers import parts

    asked = set(parts(question))
    sentences = re.split(r"(?<=[.!?])\s+|(?<=[。！？])", context)
    return max(sentences, key=lambda each: len(asked & set(parts(each))))


PROBLEM = QuestionAnswering()
