"""The whole stage on small written files of rows, and on published datasets where these are at hand."""

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tasks import recipe, stages
from tasks.data import splits
from tasks.data.validate import check, validate
from tasks.errors import BadInput
from tasks.records import Checked, Snapshot
from tests.tasks.data.test_duplicates import plain_set

PUBLISHED = Path(__file__).parents[4] / "shared" / "data"
TEXT, TAGS = "text-classification", "token-classification"
Rows = Sequence[dict[str, Any]]


def snapshot(rows: Rows, task: str = TEXT, refused: Rows = (), name: str = "train.jsonl") -> Snapshot:
    """A Snapshot as ingest makes it: `rows` lack what they do not care for."""
    string = pa.string()
    kinds = {"text": string, "label": string} if task == TEXT else dict.fromkeys(("tokens", "tags"), pa.list_(string))
    kinds = {"row": pa.int64(), "place": string, "split": string, **kinds, "time": string, "group": string}
    schema = pa.schema([*kinds.items(), ("extra", pa.map_(string, string))])
    whole = [{"row": i, "place": f"{name}:{i + 1}", "split": "", "extra": [], **row} for i, row in enumerate(rows)]
    with stages.workplace("test") as folder:
        pq.write_table(pa.Table.from_pylist(whole, schema), folder / "rows.parquet", compression="zstd")
        lines = [json.dumps({"place": f"{name}:?", "detail": "broken", "row": "", **row}) + "\n" for row in refused]
        (folder / "quarantine.jsonl").write_text("".join(lines))
        return Snapshot.of(stages.keep(folder), rows=len(rows), quarantined=len(refused), inputs={name: "sha256:0"})


def checked(
    rows: Rows, task: str = TEXT, refused: Rows = (), rules: dict[str, Any] | None = None, **data: Any
) -> Checked:
    wanted = recipe.Rules(**{"min_per_class": 1, **(rules or {})})
    return validate.fn(snapshot(rows, task, refused), task, recipe.Data(source="x", **data), wanted)


def content(record: Checked, name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pq.read_table(stages.open_file(record.files[f"{name}.parquet"])).to_pylist()
    return rows


def quarantine(record: Checked) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stages.open_file(record.files["quarantine.jsonl"]).open("rb")]


def profile(record: Checked) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(stages.open_file(record.files["profile.json"]).read_bytes())
    return read


def message(rows: Rows, **how: Any) -> BadInput:
    with pytest.raises(BadInput) as error:
        checked(rows, **how)
    return error.value


def many(count: int, split: str = "", labels: str = "ab", start: int = 0) -> list[dict[str, Any]]:
    """Rows of which no two are alike."""
    numbers = range(start, start + count)
    return [{"text": f"row {i} says {i * i}", "label": labels[i % len(labels)], "split": split} for i in numbers]


def given_splits(train: Rows = (), validation: Rows = (), test: Rows = ()) -> list[dict[str, Any]]:
    """Ten plain rows in each split, and these."""
    parts = {"train": train, "validation": validation, "test": test}
    return [
        row
        for n, (split, more) in enumerate(parts.items())
        for row in [*many(10, split, start=100 * n), *({"label": "a", **one, "split": split} for one in more)]
    ]


def test_sound_rows_are_all_kept_and_divided() -> None:
    record = checked(many(400))
    assert sum(record.rows.values()) == 400
    assert record.rows["validation"] == pytest.approx(40, abs=20)
    assert record.quarantined == 0
    assert record.labels == ("a", "b")
    kept = [row["row"] for split in ("train", "validation", "test") for row in content(record, split)]
    assert sorted(kept) == list(range(400))


def test_given_splits_stay_as_they_are() -> None:
    record = checked(given_splits())
    assert record.rows == {"train": 10, "validation": 10, "test": 10}
    assert {row["split"] for row in content(record, "test")} == {"test"}


def test_the_same_rows_give_the_same_bytes_and_the_stage_is_reused(tmp_path: Path) -> None:
    snap, data, rules = snapshot(many(400)), recipe.Data(source="x"), recipe.Rules()
    first = validate.fn(snap, TEXT, data, rules)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    assert check(snap, TEXT, data, rules, tmp_path / "one") == check(snap, TEXT, data, rules, tmp_path / "two") == first
    key = stages.validate(snap, TEXT, data, rules)
    assert stages.find(key) == first


def test_the_quarantine_begins_with_the_rows_that_ingest_refused() -> None:
    refused = [{"reason": "json-dupkey"}, {"reason": "json-depth"}]
    rows = [*many(400), {"text": " ", "label": "a"}, {"text": "x", "label": "spam "}]
    record = checked(rows, refused=refused)
    lines = quarantine(record)
    assert [line["reason"] for line in lines] == ["json-dupkey", "json-depth", "empty-text", "label-form"]
    assert lines[3]["place"] == "train.jsonl:402"
    assert lines[3]["detail"] == "label 'spam '"
    assert lines[3]["row"]["label"] == "spam "
    assert record.quarantined == 4
    assert sum(record.rows.values()) == 400
    assert profile(record)["quarantine"] == {"json-dupkey": 1, "json-depth": 1, "empty-text": 1, "label-form": 1}


def test_a_refused_row_is_kept_whole_however_long() -> None:
    record = checked([*many(200), {"text": "x" * 5000, "label": "a"}], rules={"max_characters": 4000})
    (line,) = quarantine(record)
    assert line["detail"] == "5,000 characters > 4,000"
    assert line["row"]["text"] == "x" * 5000


def test_labels_are_written_composed_so_that_two_spellings_are_one_label() -> None:
    record = checked(many(100, labels=("caf\u00e9", "cafe\u0301", "b")))  # type: ignore[arg-type]
    assert record.labels == ("b", "caf\u00e9")
    assert {row["label"] for row in content(record, "train")} == {"b", "caf\u00e9"}


def test_repetitions_leave_train_and_published_sets_stay_whole() -> None:
    twice = [{"text": "buy  now"}, {"text": "buy now "}]
    record = checked(given_splits(train=twice, test=[{"text": "so it is"}] * 2))
    assert record.rows == {"train": 11, "validation": 10, "test": 12}
    assert [(line["reason"], line["detail"]) for line in quarantine(record)] == [
        ("duplicate", "repeats train.jsonl:11")
    ]
    assert checked(given_splits(train=twice), rules={"duplicates": "keep"}).rows["train"] == 12


def test_the_same_text_with_another_label_is_counted_and_kept() -> None:
    record = checked(given_splits(train=[{"text": "well"}, {"text": "well", "label": "b"}]))
    assert record.rows["train"] == 12
    assert profile(record)["conflicts"] == {"texts": 1, "places": [["train.jsonl:11", "train.jsonl:12"]]}


LONG = "the quick brown fox jumps over the lazy dog and then walks home to sleep until the sun is up again"
LEAKS = {"train": [{"text": "so  it is"}, {"text": LONG.upper() + "!"}], "test": [{"text": "so it is"}, {"text": LONG}]}


def test_training_rows_that_stand_in_the_test_set_are_dropped() -> None:
    record = checked(given_splits(**LEAKS))
    assert record.rows == {"train": 10, "validation": 10, "test": 12}
    assert [(line["reason"], line["detail"]) for line in quarantine(record)] == [
        ("leak-exact", "equals train.jsonl:33 (test)"),
        ("leak-near", "1.00 like train.jsonl:34 (test)"),
    ]


def test_leaks_refuse_the_dataset_or_stay_as_the_rules_say() -> None:
    error = message(given_splits(**LEAKS), rules={"leaks": "refuse"})
    assert error.code == "E-LEAK"
    assert error.message.startswith(
        "2 rows stand in a later split too: 1 leak-exact, 1 leak-near; first: train.jsonl:11 "
    )
    assert checked(given_splits(**LEAKS), rules={"leaks": "keep"}).rows["train"] == 12
    assert checked(given_splits(**LEAKS), rules={"similarity": 1.0}).rows["train"] == 11


def test_a_published_validation_set_may_overlap_its_test_set() -> None:
    assert checked(given_splits(validation=[{"text": LONG}], test=[{"text": LONG + "!"}])).rows["validation"] == 11


def test_an_own_validation_row_that_stands_in_test_is_dropped() -> None:
    rows = [{**row, "time": f"2026-01-{i + 1:02}"} for i, row in enumerate(many(30))]
    rows[18]["text"] = rows[29]["text"] = LONG
    rows[0]["text"] = LONG + "."
    how: dict[str, Any] = {"time": "time", "split": recipe.SplitBy(by="time", validation=0.3, test=0.3)}
    record = checked(rows, rules={"duplicates": "keep"}, **how)
    assert record.rows == {"train": 11, "validation": 8, "test": 9}
    assert [(line["place"], line["reason"]) for line in quarantine(record)] == [
        ("train.jsonl:1", "leak-near"),
        ("train.jsonl:19", "leak-exact"),
    ]


def test_too_many_bad_rows_refuse_the_dataset_and_the_person_gets_all_of_them(home: Path) -> None:
    bad = [{"text": "x", "label": f"odd {i} "} for i in range(20)] + [{"text": "", "label": "a"}] * 11
    snap = snapshot([*many(960), *bad], refused=[{"reason": "text-encoding"}] * 9)
    with pytest.raises(BadInput) as error:
        validate.fn(snap, TEXT, recipe.Data(source="x"), recipe.Rules())
    path = home / "quarantine" / f"{snap.digest[7:19]}.jsonl"
    assert error.value.code == "E-DATA-BADROWS"
    assert (
        "4 % of 1,000 rows > limit 1 %: 20 label-form, 11 empty-text, 9 text-encoding; first: " in error.value.message
    )
    assert str(path) in error.value.message
    lines = path.read_bytes().splitlines()
    assert len(lines) == 40
    assert stages.artifacts().has(stages.put(path).digest)
    assert stages.find(stages.validate(snap, TEXT, recipe.Data(source="x"), recipe.Rules())) is None


def test_repetitions_and_leaks_are_no_bad_rows() -> None:
    record = checked(given_splits(train=[{"text": "again"}] * 50), rules={"bad_rows": 0.0})
    assert record.quarantined == 49


def test_all_broken_rules_stand_in_one_message() -> None:
    rows = given_splits(train=[{"text": "", "label": "a"}], test=[{"text": "one more", "label": "c"}])
    error = message(rows, rules={"min_per_class": 6})
    assert error.code == "E-DATA-BADROWS"
    assert "E-LABELS train has no row of 'c' (1 in test)" in error.message
    assert "E-CLASS-MIN fewer than 6 rows of train hold 'a' (5); 'b' (5)" in error.message


@pytest.mark.parametrize(
    ("rows", "how", "code"),
    [
        ([], {}, "E-DATA-EMPTY"),
        (many(2), {}, "E-SPLIT-EMPTY"),
        ([{"text": "same", "label": "a"}] * 500, {}, "E-SPLIT-EMPTY"),
        (many(400, labels="a"), {}, "E-LABELS-ONE"),
        (many(400), {"split": recipe.SplitBy(validation=0.0)}, "E-SPLIT-EMPTY"),
        (many(400), {"split": recipe.SplitBy(by="given")}, "E-SPLIT-GIVEN"),
        (many(400), {"split": recipe.SplitBy(by="time")}, "E-SPLIT-COLUMN"),
        (many(400), {"rules": {"labels": ("a", "x"), "bad_rows": 1.0}}, "E-CLASS-MIN"),
        (many(50, "test"), {}, "E-SPLIT-EMPTY"),
    ],
)
def test_datasets_from_which_nothing_can_be_learnt_are_refused(rows: Rows, how: dict[str, Any], code: str) -> None:
    assert message(rows, **how).code == code


def test_a_validation_set_of_faulty_rows_is_not_replaced_in_silence() -> None:
    faulty = [{**row, "text": ""} if row["split"] == "validation" else row for row in given_splits()]
    error = message(faulty, rules={"bad_rows": 1.0})
    assert error.code == "E-SPLIT-EMPTY"
    assert "validation 0" in error.message


def test_twenty_thousand_labels_are_too_many_and_told_briefly() -> None:
    rows = [
        {"text": f"t {i}", "label": f"l{i}", "split": ("train", "validation", "test")[max(0, i - 19_997)]}
        for i in range(20_000)
    ]
    error = message(rows)
    assert error.code == "E-LABELS"
    assert "19,998 labels > max 1,000" in error.message
    assert len(error.message) < 2000


def test_a_declared_order_of_labels_is_their_order() -> None:
    assert checked(many(400), rules={"labels": ("b", "a")}).labels == ("b", "a")


def test_groups_stay_in_one_split() -> None:
    rows = [{**row, "group": f"customer {i // 5}"} for i, row in enumerate(many(500))]
    record = checked(rows, group="customer")
    sides = [{row["group"] for row in content(record, split)} for split in record.rows]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 100
    assert profile(record)["split"] == "group"


def automatic(rows: Rows) -> Rows:
    """The same rows, as a model labelled them."""
    return [{**row, "split": "automatic"} for row in rows]


@pytest.mark.parametrize(("by", "column"), [("stratified", {}), ("group", {"group": "who"}), ("time", {"time": "at"})])
def test_rows_that_were_labelled_automatically_train_whatever_the_way(by: Any, column: dict[str, Any]) -> None:
    traits = [{"group": f"customer {i // 5}", "time": f"{2001 + i}-01-01"} for i in range(300)]
    rows = [{**row, **each} for row, each in zip([*automatic(many(100, start=200)), *many(200)], traits, strict=True)]
    record = checked(rows, split=recipe.SplitBy(by=by, validation=0.2, test=0.2), **column)
    assert {row["split"] for name in ("validation", "test") for row in content(record, name)} == {""}
    assert [row["split"] for row in content(record, "train")].count("automatic") == 100
    assert profile(record)["automatic"] == 100
    assert sum(record.rows.values()) == 300


def test_automatic_rows_leave_a_split_that_the_source_names_to_those_of_people() -> None:
    record = checked([*given_splits(), *automatic(many(5, start=1000))])
    assert record.rows == {"train": 15, "validation": 10, "test": 10}
    assert "automatic" not in profile(checked(given_splits()))


def test_automatic_rows_alone_leave_nothing_to_examine_by() -> None:
    error = message(automatic(many(100)))
    assert error.code == "E-SPLIT-EMPTY"
    assert "no rows in validation and test (rows: train 100" in error.message


def test_what_a_person_said_of_a_text_goes_before_what_a_model_said() -> None:
    said = [{"text": "well", "label": "b"}]
    record = checked([*automatic([{"text": "well ", "label": "a"}, *said]), *given_splits(train=said)])
    assert [(line["reason"], line["detail"]) for line in quarantine(record)] == [
        ("duplicate", "repeats train.jsonl:13")
    ] * 2
    assert record.rows["train"] == 11


@pytest.mark.parametrize("leaks", ["drop", "refuse", "keep"])
def test_an_automatic_row_of_a_group_that_examines_does_not_train(leaks: str) -> None:
    rows = [{**row, "group": f"customer {i // 5}"} for i, row in enumerate(many(500))]
    guessed = [{**row, "group": f"customer {i}"} for i, row in enumerate(automatic(many(100, start=500)))]
    record = checked([*rows, *guessed], group="customer", rules={"leaks": leaks})
    train, validation, test = ({row["group"] for row in content(record, name)} for name in splits.NAMES)
    assert not train & (validation | test)
    found = Counter((line["reason"], line["detail"].rpartition(" ")[2]) for line in quarantine(record))
    assert found == {("leak-group", "(validation)"): len(validation), ("leak-group", "(test)"): len(test)}


@pytest.mark.parametrize("leaks", ["drop", "refuse", "keep"])
def test_an_automatic_row_that_is_no_older_than_the_exam_does_not_train(leaks: str) -> None:
    traits = [{"time": f"{2001 + i}-01-01"} for i in range(300)]
    guessed = [{**row, **each} for row, each in zip(automatic(many(300, start=500)), traits, strict=True)]
    rows = [{**row, **each} for row, each in zip(many(300), traits, strict=True)]
    split = recipe.SplitBy(by="time", validation=0.2, test=0.2)
    record = checked([*rows, *guessed], time="at", rules={"leaks": leaks}, split=split)
    assert record.rows == {"train": 360, "validation": 60, "test": 60}
    assert [row["split"] for row in content(record, "train")].count("automatic") == 180
    found = Counter((line["reason"], line["detail"]) for line in quarantine(record))
    assert found == {("leak-time", "is no older than train.jsonl:181 (validation)"): 120}


def twice_told(count: int = 140) -> list[dict[str, Any]]:
    """Sentences that come again: as they were, under another label, changed a little, or from another customer."""
    draw = np.random.default_rng(0)
    found: list[dict[str, Any]] = []
    for i in range(count):
        words = [f"word{number}" for number in draw.integers(0, 400, 24)]
        days, customers = draw.integers(1, 29, 2), draw.integers(0, 40, 2)
        first, again = (
            {"text": " ".join(words), "label": "ab"[i % 2], "time": f"2026-01-{day:02}", "group": f"customer {who}"}
            for day, who in zip(days, customers, strict=True)
        )
        if i % 4 == 0:
            again = {**first, "text": "  ".join(words) + " "}
        elif i % 4 == 1:
            again["label"] = "ba"[i % 2]
        elif i % 4 == 2:
            again["text"] = " ".join([*words[:-1], "changed"]).upper()
        found += [first, again]
    return [{**found[i], "split": "test" if i % 5 == 0 else "train"} for i in draw.permutation(len(found))]


def folded(rows: Rows) -> list[str]:
    return [" ".join(row["text"].split()) for row in rows]


def labels(rows: Rows) -> list[str]:
    return [row["label"] for row in rows]


WAYS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {  # the splits that the source names, and what divides
    "given, validation carved": (("train", "test"), {"by": "given"}),
    "given, both carved by customer": (("train",), {"by": "given", "group": "customer"}),
    "stratified": ((), {"by": "stratified"}),
    "group": ((), {"by": "group", "group": "customer"}),
    "time": ((), {"by": "time", "time": "time"}),
}


def divided(rows: Rows, way: str, duplicates: str = "drop") -> dict[str, list[dict[str, Any]]]:
    """The rows that are written for each split."""
    names, how = WAYS[way]
    named = [{**row, "split": row["split"] if row["split"] in names else "".join(names[:1])} for row in rows]
    split = recipe.SplitBy(by=how["by"], validation=0.25, test=0.25)
    columns = {key: value for key, value in how.items() if key != "by"}
    record = checked(named, rules={"duplicates": duplicates}, split=split, **columns)
    return {name: content(record, name) for name in ("train", "validation", "test")}


@pytest.mark.parametrize("duplicates", ["drop", "keep"])
@pytest.mark.parametrize("way", WAYS)
def test_what_is_learned_and_what_is_examined_have_no_text_in_common(way: str, duplicates: str) -> None:
    found = divided(twice_told(), way, duplicates)
    assert min(map(len, found.values())) > 10
    for earlier, later in combinations(map(folded, found.values()), 2):
        assert not set(earlier) & set(later)
        pairs = product(map(plain_set, earlier), map(plain_set, later))
        assert max(len(one & other) / len(one | other) for one, other in pairs) < 0.9
    if "group" in WAYS[way][1]:
        customers = [{row["group"] for row in rows} for rows in found.values()]
        assert sum(map(len, customers)) == len(set.union(*customers))
    if way == "time":
        days = [[row["time"] for row in rows] for rows in found.values()]
        assert all(max(earlier) < min(later) for earlier, later in pairwise(days))


@pytest.mark.parametrize("way", WAYS)
def test_rows_in_another_order_are_divided_alike(way: str) -> None:
    found, again = (divided(rows, way) for rows in (twice_told(), twice_told()[::-1]))
    for split, rows in found.items():
        one, other = (Counter(zip(folded(each), labels(each), strict=True)) for each in (rows, again[split]))
        assert one == other


def test_a_copy_that_comes_later_brings_no_learned_text_into_an_exam() -> None:
    rows = [{**row, "group": f"customer {i % 40}"} for i, row in enumerate(many(200))]
    copies = [{**row, "group": f"customer {50 + i % 7}"} for i, row in enumerate(rows[::3])]
    before, after = (divided(each, "group") for each in (rows, [*rows, *copies]))
    assert set(folded(before["train"])) <= set(folded(after["train"]))
    assert set(folded(before["test"])) - set(folded(after["test"]))


SENTENCE = [("Ada", "B-PER"), ("wrote", "O"), ("in", "O"), ("London", "B-LOC")]


def tagged(count: int, split: str) -> list[dict[str, Any]]:
    words, tags = zip(*SENTENCE, strict=True)
    return [{"tokens": [*words, split, str(i)], "tags": [*tags, "O", "O"], "split": split} for i in range(count)]


def test_tagged_sentences_are_checked_and_their_tags_completed() -> None:
    rows = [*tagged(40, "train"), *tagged(5, "validation"), *tagged(5, "test")]
    rows += [
        {"tokens": ["Ada"], "tags": ["PER"], "split": "train"},
        {"tokens": ["\u200b"], "tags": ["O"], "split": "train"},
    ]
    record = checked(rows, task=TAGS, rules={"bad_rows": 0.5})
    assert record.labels == ("O", "B-LOC", "B-PER", "I-LOC", "I-PER")
    assert [line["reason"] for line in quarantine(record)] == ["tag-form", "empty-text"]
    assert profile(record)["labels"]["test"] == {"B-PER": 5, "O": 20, "B-LOC": 5}


def test_tags_in_two_spellings_are_written_as_one() -> None:
    rows = [*tagged(10, "train"), *tagged(5, "validation"), *tagged(5, "test")]
    rows[0]["tags"][0], rows[1]["tags"][0] = "B-Caf\u00e9", "B-Cafe\u0301"
    record = checked(rows, task=TAGS)
    assert "B-Caf\u00e9" in record.labels
    assert [row["tags"][0] for row in content(record, "train")[:3]] == ["B-Caf\u00e9", "B-Caf\u00e9", "B-PER"]


def test_plain_tags_are_free_until_one_has_a_prefix() -> None:
    rows = [{**row, "tags": ["NNP", "VBD", "IN", "NNP", "X", "CD"]} for row in tagged(200, "")]
    assert checked(rows, task=TAGS).labels == ("CD", "IN", "NNP", "VBD", "X")
    mixed = message([*rows, *tagged(1, "")], task=TAGS)
    assert mixed.code == "E-DATA-BADROWS"


def test_the_profile_tells_lengths_and_times() -> None:
    rows = [{**row, "time": f"2026-01-{1 + i // 4:02}"} for i, row in enumerate(many(100))]
    told = profile(checked(rows, time="time", split=recipe.SplitBy(by="time")))
    assert told["rows"] == {"train": 76, "validation": 12, "test": 12}
    assert told["time"]["test"] == ["2026-01-23T00:00:00+00:00", "2026-01-25T00:00:00+00:00"]
    assert told["words"]["train"] == {"min": 4, "median": 4, "p95": 4, "max": 4}
    assert told["characters"]["train"] == {"min": 12, "median": 16, "p95": 16, "max": 16}
    assert told["labels"]["train"] == {"a": 38, "b": 38}
    assert told["spaced"] == 1.0


def test_one_line_when_it_begins_and_one_with_numbers_when_it_ends(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "vernal.validate"):
        checked(given_splits())
    assert caplog.messages[0] == "30 rows of train.jsonl"
    assert "'train': 10" in caplog.messages[1]
    assert len(caplog.messages) == 2


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.sampled_from(["", " ", "good", "bad  day", "bad day", LONG, LONG + "!", "x" * 200])
            | st.text(max_size=8),
            "label": st.sampled_from(["a", "a", "b", "b", " b", ""]) | st.none(),
            "split": st.sampled_from(["train", "train", "validation", "test", "automatic"]),
            "time": st.sampled_from(["2026-01-01", "2026-01-02", "2026-01-03T10:00:00Z", "2026-01-04", "soon"]),
            "group": st.sampled_from(["g", "h", "i", "j", ""]),
        }
    ),
    max_size=30,
)


REFUSALS = {"E-DATA-EMPTY", "E-SPLIT-EMPTY", "E-SPLIT-GIVEN", "E-LABELS", "E-LABELS-ONE", "E-CLASS-MIN"}


def test_no_row_is_ever_lost_or_counted_twice() -> None:
    outcomes: Counter[str] = Counter()
    sound = [{**row, "time": f"2026-02-{i % 28 + 1:02}", "group": f"g{i}"} for i, row in enumerate(given_splits())]

    @examples(deadline=None, max_examples=100)
    @given(
        rows=ROWS,
        refused=st.integers(0, 3),
        named=st.booleans(),
        by=st.sampled_from(["auto", "given", "stratified", "group", "time"]),
        dials=st.fixed_dictionaries(
            {"duplicates": st.sampled_from(["drop", "keep"]), "leaks": st.sampled_from(["drop", "keep"])}
        ),
    )
    def every_row_has_its_place(rows: Rows, refused: int, named: bool, by: Any, dials: Any) -> None:
        rows = [row if named or row["split"] == "automatic" else {**row, "split": ""} for row in [*rows, *sound]]
        snap = snapshot(rows, refused=[{"reason": "json-dupkey"}] * refused)
        split = recipe.SplitBy(by=by, validation=0.3, test=0.3)
        data = recipe.Data(source="x", time="time", group="group", split=split)
        rules = recipe.Rules(bad_rows=1.0, min_per_class=1, max_characters=150, **dials)
        try:
            record = validate.fn(snap, TEXT, data, rules)
        except BadInput as error:
            outcomes[error.code] += 1
            return
        outcomes["checked"] += 1
        kept = [row["place"] for split in record.rows for row in content(record, split)]
        lines = quarantine(record)
        assert len(kept) == sum(record.rows.values())
        assert len(lines) == record.quarantined == sum(profile(record)["quarantine"].values())
        assert len(kept) + len(lines) == snap.rows + snap.quarantined == len(rows) + refused
        assert sorted(kept + [line["place"] for line in lines[refused:]]) == sorted(
            f"train.jsonl:{i + 1}" for i in range(len(rows))
        )

    every_row_has_its_place()
    assert outcomes["checked"] >= 50
    assert set(outcomes) - {"checked"} <= REFUSALS


def published(name: str, time_column: str | None = None) -> tuple[Snapshot, dict[str, Any]]:
    folder = PUBLISHED / name
    if not folder.is_dir():
        pytest.skip(f"the published dataset {name} is not at hand")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    columns = ("text", "label") if card["task"] == TEXT else ("tokens", "tags")
    rows = [
        {
            "place": f"{split}:{number}",
            "split": split,
            "time": row.get(time_column or ""),
            **{column: row[column] for column in columns},
        }
        for split in ("train", "validation", "test")
        for number, row in enumerate(_published_rows(folder, split), 1)
    ]
    return snapshot(rows, card["task"]), card


def _published_rows(folder: Path, split: str) -> list[dict[str, Any]]:
    if (path := folder / f"{split}.parquet").exists():
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    with (folder / f"{split}.jsonl").open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def timed(make: Callable[[], Checked]) -> tuple[Checked, float]:
    began = time.process_time()
    return make(), time.process_time() - began


def test_sst2_is_whole_and_checked_in_seconds() -> None:
    snap, card = published("sst2")
    record, seconds = timed(lambda: validate.fn(snap, TEXT, recipe.Data(source="x"), recipe.Rules()))
    assert record.rows == card["splits"] == {"train": 66_982, "validation": 872, "test": 1_821}
    assert record.quarantined == 0
    assert record.labels == ("negative", "positive")
    told = profile(record)
    assert told["labels"] == card["labels"]
    assert told["conflicts"]["texts"] == card["checks"]["same_text_with_different_labels"]["train"] == 5
    assert seconds < 8


def test_banking77_loses_only_its_near_leaks_in_less_than_two_seconds() -> None:
    snap, card = published("banking77")
    record, seconds = timed(lambda: validate.fn(snap, TEXT, recipe.Data(source="x"), recipe.Rules()))
    assert len(record.labels) == card["n_labels"] == 77
    assert Counter(line["reason"] for line in quarantine(record)) == {"leak-near": 21}
    assert record.rows == {**card["splits"], "train": card["splits"]["train"] - 21}
    assert seconds < 2


def test_conll2003_shows_its_published_overlaps() -> None:
    snap, card = published("conll2003")
    data, rows = recipe.Data(source="x"), pq.read_table(stages.open_file(snap.files["rows.parquet"])).to_pylist()
    texts = {split: [" ".join(row["tokens"]) for row in rows if row["split"] == split] for split in card["splits"]}
    held = {split: set(texts[split]) for split in ("validation", "test")}
    overlaps = [sum(text in held[split] for text in texts["train"]) for split in ("validation", "test")]
    assert overlaps == [357, 308]  # as the dataset's card says
    kept = validate.fn(snap, TAGS, data, recipe.Rules(duplicates="keep", similarity=1.0))
    later = held["validation"] | held["test"]
    exact = sum(text in later for text in texts["train"])
    assert Counter(line["reason"] for line in quarantine(kept)) == {"leak-exact": exact}
    record = validate.fn(snap, TAGS, data, recipe.Rules())
    train = [(tuple(row["tokens"]), tuple(row["tags"])) for row in rows if row["split"] == "train"]
    reasons = Counter(line["reason"] for line in quarantine(record))
    assert reasons["duplicate"] == len(train) - len(set(train))
    assert reasons == {"duplicate": 1348, "leak-exact": 190, "leak-near": 36}
    assert record.rows == {"train": 14_041 - 1574, "validation": 3250, "test": 3453}
    assert record.labels == ("O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in ("LOC", "MISC", "ORG", "PER")))


def test_airline_tweets_are_divided_by_time() -> None:
    snap, card = published("airline_tweets", "date")
    split = recipe.SplitBy(by="time", validation=0.2, test=0.2)
    record = validate.fn(snap, TEXT, recipe.Data(source="x", time="date", split=split), recipe.Rules())
    assert sum(record.rows.values()) + record.quarantined == sum(card["splits"].values()) == 14_576
    spans = [profile(record)["time"][name] for name in ("train", "validation", "test")]
    assert all(earlier[1] < later[0] for earlier, later in pairwise(spans))
    shares = np.array([record.rows[name] for name in ("train", "validation", "test")]) / sum(record.rows.values())
    assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
