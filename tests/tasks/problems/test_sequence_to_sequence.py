"""What a summary has to beat: the first sentences of the text, in scripts with blanks and without."""

import pytest

from tasks import problems

PROBLEM = problems.named("sequence-to-sequence")
FIRST = "the first 3 sentences"
NEWS = 'Roses cost 3.5 % more. "Why now?" asks the mayor!\nNobody knows. Gardens go on.'
NEWS_ZH = "今年的玫瑰贵了3.5%。市长问：“为什么是现在？！”没有人知道。花园还在。明天再说。"


def answers(*texts: str) -> dict[str, list[str]]:
    return PROBLEM.baselines([], [{"source": text, "target": ""} for text in texts])


@pytest.mark.parametrize(
    ("text", "lead"),
    [
        (NEWS, 'Roses cost 3.5 % more. "Why now?" asks the mayor!\nNobody knows.'),
        ("One. Two! Three?  Four.", "One. Two! Three?"),
        ("Really?! Yes. No... And so on.", "Really?! Yes. No..."),
        (NEWS_ZH, "今年的玫瑰贵了3.5%。市长问：“为什么是现在？！”没有人知道。花园还在。"),
        ("一。 二！ 三？ 四。", "一。 二！ 三？"),
        ("他说「不。」就走了。没人来！没有？！再见。", "他说「不。」就走了。没人来！没有？！"),
    ],
)
def test_a_long_text_is_answered_by_its_first_sentences_word_for_word(text: str, lead: str) -> None:
    assert answers(text) == {"copy": [text], FIRST: [lead]}


@pytest.mark.parametrize(
    "text", ["One.\n\nTwo. Three. ", "v1.2.3.4 is out", "一。二。三。", "他说：「一。二。三！」", ""]
)
def test_a_text_of_no_more_sentences_has_no_lead_but_itself(text: str) -> None:
    assert answers(text) == {"copy": [text]}


def test_beside_long_texts_short_ones_are_answered_whole() -> None:
    assert answers("A dog.", NEWS)[FIRST][0] == "A dog."


def test_the_lead_of_a_text_that_tells_the_news_first_beats_its_copy() -> None:
    found = answers(NEWS, NEWS)
    truth = found[FIRST]
    scores = {name: PROBLEM.marks(truth, said, ()).score("rougeL") for name, said in found.items()}
    assert scores[FIRST] == 1.0 > scores["copy"] > 0.5
