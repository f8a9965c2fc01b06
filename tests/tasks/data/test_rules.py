"""Each rule by an example on either side of its border; the dataset's rules together."""

import time

import pytest

from tasks import problems, recipe
from tasks.data import rules
from tasks.data.rules import Form, Row, Tally

TEXTS, TAGS = problems.named("text-classification"), problems.named("token-classification")


def fault(text: str = "hello", label: str | None = "spam", form: Form | None = None, **rest: str | None) -> str | None:
    row = Row({"text": text, "label": label}, rest.get("time"), rest.get("group"))
    found = rules.row_fault(row, form or Form(TEXTS, 100))
    return found and found.reason


def tag_fault(words: list[str], tags: list[str | None], prefixed: bool = True) -> str | None:
    found = rules.row_fault(Row({"tokens": words, "tags": tags}), Form(TAGS, 100, prefixed=prefixed))
    return found and found.reason


@pytest.mark.parametrize(
    "text", ["", " \t\n", "\u200b\u200d\ufeff", "\x00\x1f\x85", "\u2003\u3000\xa0", "\ufe0f\u2800"]
)
def test_a_text_in_which_nothing_is_visible_is_empty(text: str) -> None:
    assert fault(text) == "empty-text"


@pytest.mark.parametrize("text", ["x", "\u200bx", "👩\u200d👩\u200d👧", "。", "e\u0301", "\U0001f600"])
def test_a_text_with_anything_visible_is_none(text: str) -> None:
    assert fault(text) is None


def test_a_text_may_be_as_long_as_the_rules_say_and_no_longer() -> None:
    assert fault("x" * 100) is None
    assert fault("x" * 101) == "text-long"


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (None, "label-empty"),
        ("", "label-empty"),
        (" \u200b", "label-empty"),
        ("spam ", "label-form"),
        ("\tspam", "label-form"),
        ("spam\u200b", "label-form"),
        ("spam\nINFO all is well", "label-form"),
        ("spam\x1b[31mred", "label-form"),
        ("spam\u2028x", "label-form"),
        ("x" * 65, "label-form"),
        ("x" * 10_000, "label-form"),
        ("x" * 64, None),
        ("<script>", None),
        ("../x", None),
        ("reverted_card_payment?", None),
        ("财经", None),
        ("e\u0301" * 64, None),
    ],
)
def test_a_label_is_printable_short_and_without_blanks_around_it(label: str | None, reason: str | None) -> None:
    assert fault(label=label) == reason


def test_a_label_outside_the_given_set_is_unknown_and_spelling_variants_are_one() -> None:
    form = Form.of(TEXTS, recipe.Data(source="x"), recipe.Rules(labels=("caf\u00e9", "bar")), prefixed=False)
    assert fault(label="cafe\u0301", form=form) is None
    assert fault(label="Bar", form=form) == "label-unknown"
    assert fault(label="bar ", form=form) == "label-form"


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        (["B-PER", "O"], None),
        (["I-PER", "O"], None),
        (["S-PER", "U-creative-work"], None),
        (["E-PER", "L-PER"], None),
        ([], "tags-empty"),
        (["O", None], "tags-empty"),
        (["O", ""], "tags-empty"),
        (["O"], "tags-length"),
        (["O", "O", "O"], "tags-length"),
        (["O", "PER"], "tag-form"),
        (["O", "X-PER"], "tag-form"),
        (["O", "B-"], "tag-form"),
        (["O", "B-PER "], "tag-form"),
        (["O", "b-PER"], "tag-form"),
    ],
)
def test_tags_are_outside_or_a_prefix_and_a_name(tags: list[str | None], reason: str | None) -> None:
    assert tag_fault(["Ada", "wrote"], tags) == reason


def test_tags_of_a_set_without_prefixes_are_free() -> None:
    assert tag_fault(["Ada", "wrote"], ["NNP", "VBD"], prefixed=False) is None
    assert tag_fault(["Ada", "wrote"], ["NNP", "VBD\n"], prefixed=False) == "tag-form"


@pytest.mark.parametrize(
    "moment", ["2015-02-16", "2015-02-16T23:36:00", "2015-02-16 23:36:00.5+01:00", "20150216T233600Z"]
)
def test_iso_times_are_read(moment: str) -> None:
    assert fault(form=Form(TEXTS, 100, timed=True), time=moment) is None


@pytest.mark.parametrize("moment", [None, "", "16.02.2015", "yesterday", "2015-02-30", "1424129760"])
def test_other_times_are_faults_where_a_time_is_wanted(moment: str | None) -> None:
    assert fault(form=Form(TEXTS, 100, timed=True), time=moment) == "time-form"
    assert fault(form=Form(TEXTS, 100), time=moment) is None


def test_an_instant_counts_microseconds_and_knows_zones() -> None:
    assert rules.instant("1970-01-01T01:00:00+01:00") == 0
    assert rules.instant("1970-01-02") == 86_400_000_000
    assert rules.spelled(86_400_000_000) == "1970-01-02T00:00:00+00:00"


def test_a_row_without_its_group_is_a_fault_where_groups_are_wanted() -> None:
    assert fault(form=Form(TEXTS, 100, grouped=True), group=" ") == "group-empty"
    assert fault(form=Form(TEXTS, 100, grouped=True), group="customer 7") is None


def test_hostile_rows_are_judged_within_a_second() -> None:
    began = time.process_time()
    assert fault("x" * 10_000_000) == "text-long"
    assert fault(" " * 10_000_000, form=Form(TEXTS, 10**8)) == "empty-text"
    assert fault("e" + "\u0301\u0323" * 5_000, form=Form(TEXTS, 10**8)) is None
    assert fault(label="e" + "\u0301\u0323" * 50_000) == "label-form"
    assert time.process_time() - began < 1


def tally(**splits: dict[str, int]) -> Tally:
    counted = Tally()
    for split, counts in splits.items():
        for label, count in counts.items():
            for _ in range(count):
                counted.add(split, [label])
    return counted


def codes(counted: Tally, **dials: object) -> list[str]:
    wanted = recipe.Rules(**dials)  # type: ignore[arg-type]
    names = rules.label_names(counted, TEXTS, wanted.labels)
    return [broken.code for broken in rules.broken_rules(counted, names, TEXTS, wanted)]


EVEN = {"a": 5, "b": 5}


def test_a_sound_dataset_breaks_no_rule() -> None:
    assert codes(tally(train=EVEN, validation={"a": 1}, test={"b": 1})) == []


def test_every_broken_rule_is_found_at_once() -> None:
    found = tally(train={"a": 5, "b": 1, "c": 3}, validation={"d": 1})
    assert codes(found, max_labels=2) == ["E-SPLIT-EMPTY", "E-LABELS", "E-LABELS", "E-CLASS-MIN"]


def test_one_label_cannot_be_learnt() -> None:
    assert codes(tally(train={"a": 9}, validation={"a": 1}, test={"a": 1})) == ["E-LABELS-ONE"]


def test_a_declared_label_without_rows_is_too_rare() -> None:
    found = tally(train=EVEN, validation=EVEN, test=EVEN)
    broken = rules.broken_rules(found, ("a", "b", "z"), TEXTS, recipe.Rules())
    assert [one.code for one in broken] == ["E-CLASS-MIN"]
    assert "'z' (0)" in broken[0].message


def test_no_training_row_is_told_alone() -> None:
    assert codes(tally(validation=EVEN, test=EVEN)) == ["E-SPLIT-EMPTY"]


def test_entities_get_every_prefix_in_use_and_outside_comes_first() -> None:
    found = Tally()
    found.add("train", ["B-PER", "O"], tagged=True)
    found.add("train", ["B-LOC", "O"], tagged=True)
    found.add("test", ["I-LOC", "O"], tagged=True)
    assert rules.label_names(found, TAGS, None) == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
    found.add("test", ["S-PER"], tagged=True)
    assert rules.label_names(found, TAGS, None)[-2:] == ("S-LOC", "S-PER")


def test_an_entity_is_counted_once_a_row_whatever_its_prefix() -> None:
    found = Tally()
    for split in ("train", "validation", "test"):
        found.add(split, ["B-PER", "I-PER", "B-PER", "O"], tagged=True)
        found.add(split, ["B-LOC", "O"], tagged=True)
    labels = rules.label_names(found, TAGS, None)
    broken = rules.broken_rules(found, labels, TAGS, recipe.Rules())
    assert [one.code for one in broken] == ["E-CLASS-MIN"]
    assert "'LOC' (1); 'PER' (1)" in broken[0].message


def test_bad_rows_are_refused_above_the_limit_and_not_at_it() -> None:
    assert rules.too_many_faults({"empty-text": 10}, 1000, 0.01, []) is None
    broken = rules.too_many_faults(
        {"empty-text": 11, "label-unknown": 20}, 1000, 0.01, ["train.jsonl:118 label 'spam '"]
    )
    assert broken
    assert broken.code == "E-DATA-BADROWS"
    assert broken.message.startswith(
        "3.1 % of 1,000 rows > limit 1 %: 20 label-unknown, 11 empty-text; first: train.jsonl:118 label 'spam '; mend"
    )
