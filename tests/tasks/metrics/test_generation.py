"""Numbers of texts that equal sacreBLEU's and rouge-score's."""

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from tasks.metrics import generation
from tests.tasks.metrics.scores import scores

TRUTH = [
    "The parcel was left with the neighbour.",
    "Water the roses twice a week, and feed them in May.",
    "It costs 12.50 euros, shipping included!",
    "We are closed on Sundays.",
]
GUESS = [
    "The parcel was left at the neighbour's.",
    "Water roses twice a week and feed them in May.",
    "It costs 12.50 euros.",
    "We are closed on Sundays.",
]
OTHER = ["A neighbour took the parcel.", "Roses need water twice a week.", "12.50 euros with shipping.", "No Sundays."]
CHINESE = ["今天天气很好。", "我喜欢在公园里散步。", "请给玫瑰浇水。"]
GUESSED = ["今天的天气很好。", "我喜欢在公园散步。", "请给花浇水。"]


def test_the_corpus_has_sacrebleus_scores_and_signature() -> None:
    marks = generation.marks(TRUTH, GUESS)
    bleu = sacrebleu.BLEU()
    assert float(marks.score("bleu")) == pytest.approx(bleu.corpus_score(GUESS, [TRUTH]).score / 100)
    assert float(marks.score("chrf")) == pytest.approx(sacrebleu.corpus_chrf(GUESS, [TRUTH]).score / 100)
    assert 0.4 < float(marks.score("bleu")) < 0.9
    assert marks.signatures["bleu"] == str(bleu.get_signature())
    assert "tok:13a" in marks.signatures["bleu"]
    assert float(marks.score("exact_match")) == 1 / 4


def test_several_references_count_as_in_sacrebleu() -> None:
    marks = generation.marks(list(zip(TRUTH, OTHER, strict=True)), GUESS)
    assert float(marks.score("bleu")) == pytest.approx(sacrebleu.corpus_bleu(GUESS, [TRUTH, OTHER]).score / 100)
    assert float(marks.score("chrf")) == pytest.approx(sacrebleu.corpus_chrf(GUESS, [TRUTH, OTHER]).score / 100)
    some = generation.marks([TRUTH[0], [TRUTH[1], OTHER[1]], *TRUTH[2:]], GUESS)
    theirs = sacrebleu.corpus_bleu(GUESS, [TRUTH, [None, OTHER[1], None, None]])  # type: ignore[list-item]
    assert float(some.score("bleu")) == pytest.approx(theirs.score / 100)


def test_chinese_is_taken_apart() -> None:
    marks = generation.marks(CHINESE, GUESSED)
    theirs = sacrebleu.corpus_bleu(GUESSED, [CHINESE], tokenize="zh").score / 100
    assert float(marks.score("bleu")) == pytest.approx(theirs)
    assert "tok:zh" in marks.signatures["bleu"]
    assert theirs > 0.3 > sacrebleu.corpus_bleu(GUESSED, [CHINESE]).score / 100
    # 7 characters, all of them among the 8 that were said: 2 * 7 / 15; 8 of 10 ... in order
    one = generation.marks(CHINESE[:1], GUESSED[:1])
    assert (float(one.score("rouge1")), float(one.score("rougeL"))) == pytest.approx((14 / 15, 14 / 15))
    assert float(one.score("rouge2")) == pytest.approx(2 * 5 / (6 + 7))  # all pairs but 天天, which 的 divides


def test_rouge_is_the_mean_over_rows() -> None:
    found = scores(generation.marks(TRUTH, GUESS), generation.ROUGE)
    scorer = RougeScorer(list(generation.ROUGE))
    rows = [scorer.score(true, guess) for true, guess in zip(TRUTH, GUESS, strict=True)]
    assert found == pytest.approx({name: np.mean([row[name].fmeasure for row in rows]) for name in generation.ROUGE})
    best = scores(generation.marks(list(zip(OTHER, TRUTH, strict=True)), GUESS), generation.ROUGE)
    several = [scorer.score_multi(pair, guess) for *pair, guess in zip(OTHER, TRUTH, GUESS, strict=True)]
    assert best == pytest.approx({name: np.mean([row[name].fmeasure for row in several]) for name in generation.ROUGE})


def test_what_is_said_word_for_word_is_worth_one_and_nothing_is_worth_nothing() -> None:
    assert scores(generation.marks(TRUTH, TRUTH), generation.METRICS) == pytest.approx(
        dict.fromkeys(generation.METRICS, 1.0)
    )
    assert set(scores(generation.marks(TRUTH, [""] * 4), generation.METRICS).values()) == {0.0}


def test_texts_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match="predicted"):
        generation.marks(TRUTH, GUESS[:3])
