"""Rows whose answer is a text: BLEU and chrF of the corpus are sacreBLEU's, ROUGE is rouge-score's mean over rows.

All in 0..1: sacreBLEU's numbers are 100 times ours. A corpus's BLEU is a function of sums over its rows, which are
sacreBLEU's own (it keeps them and their formula private; hence its version is bounded). Its signatures are kept.
ROUGE is the F-measure without stemming, of characters where a text is Chinese: its own words are Latin only.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

import numpy as np

from tasks.metrics.marks import Floats
from tasks.metrics.sums import Formula, Sums, beside, mean
from tasks.metrics.words import is_cjk, units

ROUGE = ("rouge1", "rouge2", "rougeL")
METRICS = ("bleu", "chrf", *ROUGE, "exact_match")


def marks(truth: Sequence[str | Sequence[str]], predicted: Sequence[str]) -> Sums:
    """The marks of texts, each row with one reference or several; BLEU takes Chinese apart if most references are."""
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    references = [[each] if isinstance(each, str) else list(each) for each in truth]
    if len(references) != len(predicted):
        raise ValueError(f"{len(references)} texts are true and {len(predicted)} predicted")
    chinese = 2 * sum(is_cjk(each[0]) for each in references) > len(references)
    corpus = {"bleu": BLEU(tokenize="zh" if chinese else "13a", force=True), "chrf": CHRF()}
    parts = {name: _of_corpus(metric, references, predicted) for name, metric in corpus.items()}
    parts |= {name: mean(values) for name, values in _rouge(references, predicted).items()}
    exact = [guess.strip() in map(str.strip, several) for several, guess in zip(references, predicted, strict=True)]
    signatures = {name: str(metric.get_signature()) for name, metric in corpus.items()}
    return beside(parts | {"exact_match": mean(exact)}, signatures)


def _of_corpus(metric: Any, references: list[list[str]], predicted: Sequence[str]) -> tuple[Floats, Formula]:
    streams = list(zip_longest(*references))  # the first reference of every row, the second …; None where there is none
    rows = np.array(metric._extract_corpus_statistics(predicted, streams), np.float64)

    def score(sums: Floats) -> Floats:
        def one(of: Floats) -> float:
            return float(metric._compute_score_from_stats(of.tolist()).score) / 100

        return np.asarray(np.apply_along_axis(one, -1, sums))

    return rows, score


def _rouge(references: list[list[str]], predicted: Sequence[str]) -> dict[str, list[float]]:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(list(ROUGE), tokenizer=_Words())
    rows = [scorer.score_multi(*pair) for pair in zip(references, predicted, strict=True)]
    return {name: [row[name].fmeasure for row in rows] for name in ROUGE}


class _Words:
    """rouge-score's words, or characters where a text is Chinese."""

    def tokenize(self, text: str) -> list[str]:
        from rouge_score.tokenize import tokenize

        return units(text.lower()) if is_cjk(text) else list(tokenize(text, None))
