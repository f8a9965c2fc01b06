"""Each word of a row has a tag: named entities, slots, parts of speech.

A word's tag stands at its first sub-word, as in the reference code of BERT (Devlin et al. 2019, section 5.3); the other
sub-words and special tokens carry none. The answer to a row is its likeliest tags in an order that their scheme allows
(`tasks.schemes`).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tasks.encoding import IGNORED, Encoded, Encoder, numbered
from tasks.problems.contract import Answerer, Prediction, Problem, Row
from tasks.problems.text_classification import softmax
from tasks.schemes import likeliest, respelled, scheme_of

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks

VALID = 3  # the format of bundles from which on a row's tags are valid together; before, each was the likeliest alone


class TokenClassification(Problem):
    """A tag for each word.

    Words that the model did not see, since the length limit cut them off or the tokenizer makes nothing of them, get
    `O` (the first label, where there is no `O`) and probability 0.
    """

    inputs = {"tokens": "words"}
    answers = {"tags": "tags"}
    head = "AutoModelForTokenClassification"
    at = "tokens"
    reads = "tokens"
    metrics = ("entity_f1", "entity_precision", "entity_recall", "accuracy")

    def fault(self, row: Row) -> str | None:
        words, tags = row["tokens"], row["tags"]
        return None if len(words) == len(tags) else f"{len(tags)} tags for {len(words)} words"

    def encode(self, rows: Mapping[str, Any], encoder: Encoder, labels: Mapping[str, int] | None) -> Encoded:
        words = rows["tokens"]
        encoded = encoder.words(words)
        if labels is None:
            return encoded
        sizes = words.value_lengths().to_numpy()
        assert encoded.origin is not None
        starts = np.cumsum(sizes) - sizes
        word = encoded.origin + np.repeat(starts, encoded.lengths)
        marked = encoded.origin >= 0
        found = np.full(len(marked), IGNORED)
        tags = numbered(rows["tags"].flatten(), labels)
        first = np.zeros(len(tags), bool)
        first[starts[sizes > 0]] = True
        found[marked] = respelled(tags, first, scheme_of(tuple(labels)))[word[marked]]
        return replace(encoded, labels=found)

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        assert encoded.origin is not None
        outside = "O" if "O" in model.labels else model.labels[0]
        scheme = scheme_of(model.labels)
        found: list[Prediction] = []
        for row, logits, span in zip(rows, model.outputs(encoded), encoded.spans(), strict=True):
            tags, scores = [outside] * len(row["tokens"]), [0.0] * len(row["tokens"])
            words = encoded.origin[span]
            read = logits[words >= 0]
            best = likeliest(read, scheme) if model.format >= VALID else read.argmax(-1)
            for word, tag, chance in zip(words[words >= 0], best, softmax(read), strict=True):
                tags[word], scores[word] = model.labels[tag], float(chance[tag])
            found.append(Prediction(tags, scores, bool(encoded.truncated[len(found)])))
        return found

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import entities as metrics

        return metrics.marks(truth, answers, labels)

    def reduced(self, logits: Any, batch: Any) -> Any:
        return logits

    def watch(self, loss: float, kept: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> dict[str, float]:
        scheme, ids = scheme_of(labels), np.full(len(kept), IGNORED)
        for at in _rows(shard):
            read = np.flatnonzero(shard.labels[at] != IGNORED) + at.start
            ids[read] = likeliest(kept[read], scheme)
        return super().watch(loss, ids, shard, labels)

    def decoded(self, ids: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> Sequence[Any]:
        return [[labels[i] for i in ids[at][shard.labels[at] != IGNORED]] for at in _rows(shard)]

    def report(self, truth: Sequence[Any], answers: Sequence[Any]) -> str:
        """By entity as seqeval prints it, then by tag as sklearn does; parts of speech by tag alone."""
        from seqeval.metrics import classification_report as of_entities
        from sklearn.metrics import classification_report as of_tags

        from tasks.metrics.entities import iobes

        sides = [list(chain.from_iterable(rows)) for rows in (truth, answers)]
        by_tag = str(of_tags(*sides, digits=4, zero_division=0))
        if not any("-" in tag for tag in sides[0]):
            return by_tag
        spelled = ([iobes(row) for row in rows] for rows in (truth, answers))
        return f"{of_entities(*spelled, digits=4, zero_division=0)}\n{by_tag}"

    def baselines(self, train: Iterable[Row], rows: Sequence[Row]) -> dict[str, list[Any]]:
        tags: dict[str, Counter[str]] = defaultdict(Counter)
        for row in train:
            for word, tag in zip(row["tokens"], row["tags"], strict=True):
                tags[word][tag] += 1
        known = {word: min(counts, key=lambda tag: (-counts[tag], tag)) for word, counts in tags.items()}
        return {"each word's most frequent tag": [[known.get(word, "O") for word in row["tokens"]] for row in rows]}


def _rows(shard: Any) -> list[slice]:
    return [slice(int(a), int(b)) for a, b in pairwise(shard.offsets)]


PROBLEM = TokenClassification()
