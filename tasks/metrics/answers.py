"""Answers in words to questions, as SQuAD measures them, or CMRC where a text is Chinese.

SQuAD (Rajpurkar et al. 2016; its evaluation scripts 1.1 and 2.0): lower case, no punctuation, no articles, one space;
F1 of the words in common, however they are ordered. CMRC 2018 (Cui et al. 2019): characters in place of words, and only
the longest run in common counts. Each row counts as its best true answer; no true answer is met by an empty one.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

from tasks.metrics.sums import Sums, beside, mean
from tasks.metrics.words import is_cjk, units

METRICS = ("exact_match", "f1")

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def marks(truth: Sequence[str | Sequence[str]], predicted: Sequence[str]) -> Sums:
    """The marks of answers, each row with one true answer or several."""
    rows = [(allowed(true), guess) for true, guess in zip(truth, predicted, strict=True)]
    exact = [max(float(parts(true) == parts(guess)) for true in several) for several, guess in rows]
    f1 = [max(overlap(true, guess) for true in several) for several, guess in rows]
    return beside({"exact_match": mean(exact), "f1": mean(f1)})


def allowed(truth: str | Sequence[str]) -> list[str]:
    """The true answers that say something, or the empty one."""
    several = [truth] if isinstance(truth, str) else truth
    return [each for each in several if parts(each)] or [""]


def parts(text: str) -> list[str]:
    """What an answer is compared by: its normalised words, or its characters."""
    if is_cjk(text):
        return units("".join(each for each in text.lower() if unicodedata.category(each)[0] not in "PS"))
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def overlap(true: str, guess: str) -> float:
    """F1 of the words, or of the longest run of characters, that two answers have in common."""
    one, other = parts(true), parts(guess)
    if not one or not other:
        return float(one == other)
    if is_cjk(true):
        common = SequenceMatcher(None, one, other, autojunk=False).find_longest_match().size
    else:
        common = (Counter(one) & Counter(other)).total()
    return 2 * common / (len(one) + len(other))
