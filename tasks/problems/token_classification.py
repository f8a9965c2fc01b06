"""Each word of a row has a tag: named entities, slots, parts of speech.

A word's tag stands at its first sub-word, as in the reference code of BERT (Devlin et al. 2019, section 5.3); the other
sub-words and special tokens carry none.
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

if TYPE_CHECKING:
    from tasks.metrics.marks import Marks


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
        word = encoded.origin + np.repeat(np.cumsum(sizes) - sizes, encoded.lengths)
        marked = encoded.origin >= 0
        found = np.full(len(marked), IGNORED)
        found[marked] = numbered(rows["tags"].flatten(), labels)[word[marked]]
        return replace(encoded, labels=found)

    def answer(self, model: Answerer, rows: Sequence[Row]) -> list[Prediction]:
        encoded = self.given(model, rows)
        assert encoded.origin is not None
        outside = "O" if "O" in model.labels else model.labels[0]
        found: list[Prediction] = []
        for row, logits, span in zip(rows, model.outputs(encoded), encoded.spans(), strict=True):
            tags, scores = [outside] * len(row["tokens"]), [0.0] * len(row["tokens"])
            words = encoded.origin[span]
            for word, chance in zip(words[words >= 0], softmax(logits[words >= 0]), strict=True):
                tags[word], scores[word] = model.labels[int(chance.argmax())], float(chance.max())
            found.append(Prediction(tags, scores, bool(encoded.truncated[len(found)])))
        return found

    def marks(self, truth: Sequence[Any], answers: Sequence[Any], labels: tuple[str, ...]) -> "Marks":
        from tasks.metrics import entities as metrics

        return metrics.marks(truth, answers, labels)

    def decoded(self, ids: npt.NDArray[Any], shard: Any, labels: tuple[str, ...]) -> Sequence[Any]:
        spans = [slice(a, b) for a, b in pairwise(shard.offsets)]
        return [[labels[i] for i in ids[at][shard.labels[at] != IGNORED]] for at in spans]

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


PROBLEM = TokenClassification()
