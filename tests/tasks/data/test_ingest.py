"""The whole stage, on small written files and on published datasets where these are at hand."""

import json
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from infra.settings import settings
from tasks import stages
from tasks.data.ingest import BATCH, ingest
from tasks.errors import BadInput
from tasks.recipe import Data
from tasks.records import Snapshot

PUBLISHED = Path(__file__).parents[4] / "shared" / "data"
TEXT, TAGS = "text-classification", "token-classification"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VERNAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VERNAL_DATA", raising=False)
    settings.cache_clear()
    stages.artifacts.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()
    stages.artifacts.cache_clear()


def taken(folder: Path, task: Any = TEXT, source: Any = ".", **data: Any) -> Snapshot:
    return ingest.fn(Data(source=source, **data), task, str(folder))


def rows(snapshot: Snapshot) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(stages.open_file(snapshot.files["rows.parquet"])).to_pylist()
    return found


def quarantine(snapshot: Snapshot) -> list[dict[str, Any]]:
    with stages.open_file(snapshot.files["quarantine.jsonl"]).open("rb") as lines:
        return [json.loads(line) for line in lines]


def refusal(folder: Path, task: Any = TEXT, **data: Any) -> BadInput:
    with pytest.raises(BadInput) as error:
        taken(folder, task, **data)
    return error.value


def source(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content)
    return folder


class TestRows:
    def test_each_has_its_place_its_split_and_its_columns(self, tmp_path: Path) -> None:
        folder = source(
            tmp_path / "in",
            train__jsonl='{"message": "hi", "intent": 3, "at": "2026-01-02", "who": "ann", "n": 1, "list": [1]}\n\n'
            '{"message": "ho", "intent": true, "at": null}\n',
            test__csv='message,intent,at,who,n\n"two\nlines",b,,,7\n',
        )
        snapshot = taken(folder, text="message", label="intent", time="at", group="who")
        assert rows(snapshot) == [
            {
                "row": 0,
                "place": "test.csv:2",
                "split": "test",
                "text": "two\nlines",
                "label": "b",
                "time": None,
                "group": None,
                "extra": [("n", "7")],
            },
            {
                "row": 1,
                "place": "train.jsonl:1",
                "split": "train",
                "text": "hi",
                "label": "3",
                "time": "2026-01-02",
                "group": "ann",
                "extra": [("n", "1")],
            },
            {
                "row": 2,
                "place": "train.jsonl:3",
                "split": "train",
                "text": "ho",
                "label": "true",
                "time": None,
                "group": None,
                "extra": [],
            },
        ]
        assert (snapshot.rows, snapshot.quarantined) == (3, 0)
        assert list(snapshot.inputs) == ["test.csv", "train.jsonl"]
        digest = sha256((folder / "test.csv").read_bytes()).hexdigest()
        assert snapshot.inputs["test.csv"] == f"sha256:{digest}"

    def test_tokens_and_tags_may_be_texts_or_numbers(self, tmp_path: Path) -> None:
        lines = [
            {"words": ["a", "b"], "ner": ["O", "B-X"]},
            {"words": ["a"], "ner": [3]},
            {"words": ["a", "b"], "ner": ["O"]},
        ]
        folder = source(tmp_path / "in", a__jsonl="\n".join(map(json.dumps, lines)))
        snapshot = taken(folder, TAGS, tokens="words", tags="ner")
        assert [(row["tokens"], row["tags"]) for row in rows(snapshot)] == [(["a", "b"], ["O", "B-X"]), (["a"], ["3"])]
        assert quarantine(snapshot) == [
            {"place": "a.jsonl:3", "reason": "tags-length", "detail": "1 tags for 2 words", "row": lines[2]}
        ]

    def test_the_same_rows_give_the_same_bytes_wherever_they_lie(self, tmp_path: Path, home: Path) -> None:
        content = "".join(json.dumps({"text": f"text {i}", "label": str(i % 3)}) + "\n" for i in range(BATCH + 5))
        first = taken(source(tmp_path / "a", train__jsonl=content))
        second = taken(source(tmp_path / "b", train__jsonl=content), source=str(tmp_path / "b"))
        assert first == second
        stages.artifacts.cache_clear()
        settings.cache_clear()
        for manifest in home.rglob("manifests/**/*.json"):
            manifest.unlink()
        assert taken(tmp_path / "a") == first
        with pq.ParquetFile(stages.open_file(first.files["rows.parquet"])) as file:
            assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [BATCH, 5]

    def test_an_unchanged_source_is_not_read_again_and_a_changed_one_is(self, tmp_path: Path) -> None:
        folder = source(tmp_path / "in", a__csv="text,label\na,b\n")
        first = taken(folder)
        manifests = set(stages.artifacts().manifests("ingest"))
        assert taken(folder) == first
        assert set(stages.artifacts().manifests("ingest")) == manifests
        (folder / "a.csv").write_text("text,label\na,c\n")
        assert taken(folder).digest != first.digest
        assert len(set(stages.artifacts().manifests("ingest"))) == 2

    def test_tasks_of_two_labellings_are_rows_of_either_and_those_of_a_model_are_marked(self, tmp_path: Path) -> None:
        def results(**chosen: str) -> dict[str, Any]:
            parts = [{"type": "choices", "from_name": k, "value": {"choices": [v]}} for k, v in chosen.items()]
            return {"result": parts, "score": 0.87}

        tasks = [
            {"data": {"text": "lovely rake"}, "annotations": [results(sentiment="positive", topic="tools")]},
            {"data": {"text": "roses came"}, "predictions": [results(sentiment="neutral")]},
            {"data": {"text": "nobody has read this"}},
        ]
        folder = source(tmp_path / "in", test__json=json.dumps(tasks))
        sentiments = taken(folder, label="sentiment")
        assert [(row["text"], row["label"], row["split"], row["extra"]) for row in rows(sentiments)] == [
            ("lovely rake", "positive", "test", [("topic", "tools")]),
            ("roses came", "neutral", "automatic", [("confidence", "0.87")]),
        ]
        assert [(one["place"], one["reason"], one["row"]) for one in quarantine(sentiments)] == [
            ("test.json:3", "missing-column", {"text": "nobody has read this"})
        ]
        topics = taken(folder, label="topic")
        assert [(row["text"], row["label"]) for row in rows(topics)] == [("lovely rake", "tools")]
        assert [one["detail"] for one in quarantine(topics)] == ["'topic' is not there"] * 2
        several = taken(folder, "multi-label-classification", labels="sentiment")
        assert [row["labels"] for row in rows(several)] == [["positive"], ["neutral"]]

    def test_a_person_who_chose_no_label_said_that_none_fits_where_any_number_may(self, tmp_path: Path) -> None:
        said = [{"result": [{"type": "choices", "from_name": "topics", "value": {"choices": ["tools"]}}]}]
        nothing: dict[str, Any] = {"result": []}
        tasks = [
            {"data": {"text": "a fine rake"}, "annotations": said},
            {"data": {"text": "thank you"}, "annotations": [nothing], "predictions": said},
            {"data": {"text": "well"}, "annotations": [nothing | {"was_cancelled": True}]},
            {"data": {"text": "so it is"}, "predictions": [nothing]},
        ]
        folder = source(tmp_path / "in", train__json=json.dumps(tasks))
        several = taken(folder, "multi-label-classification", labels="topics")
        assert [(row["text"], row["labels"], row["split"]) for row in rows(several)] == [
            ("a fine rake", ["tools"], "train"),
            ("thank you", [], "train"),
        ]
        assert [one["reason"] for one in quarantine(several)] == ["missing-column"] * 2
        assert [row["text"] for row in rows(taken(folder, label="topics"))] == ["a fine rake"]


class TestQuarantine:
    def test_each_bad_row_is_there_with_place_reason_detail_and_itself(self, tmp_path: Path) -> None:
        lines = [
            '{"text": "good", "label": "a"}',
            "{broken",
            '{"text": 5, "label": "a"}',
            '{"label": "a"}',
            '{"text": "x", "label": null}',
            '{"text": "\\ud800", "label": "a"}',
            '{"text": "nul \\u0000", "label": "a"}',
            '{"text": "x", "label": ["a"]}',
        ]
        snapshot = taken(source(tmp_path / "in", train__jsonl="\n".join(lines)))
        assert (snapshot.rows, snapshot.quarantined) == (1, 7)
        assert [(one["place"], one["reason"]) for one in quarantine(snapshot)] == [
            ("train.jsonl:2", "json-syntax"),
            ("train.jsonl:3", "type"),
            ("train.jsonl:4", "missing-column"),
            ("train.jsonl:5", "missing-column"),
            ("train.jsonl:6", "text-surrogate"),
            ("train.jsonl:7", "text-nul"),
            ("train.jsonl:8", "type"),
        ]
        assert [one["row"] for one in quarantine(snapshot)] == [
            lines[1] + "\n",
            *(json.loads(line) for line in lines[2:]),
        ]
        details = [one["detail"] for one in quarantine(snapshot)]
        assert details[1] == "'text' is int 5, wanted text"
        assert details[2:4] == ["'text' is not there", "'label' is null"]

    def test_a_long_row_can_be_had_back_from_the_quarantine(self, tmp_path: Path) -> None:
        long = json.dumps({"text": "x" * 10**6, "label": ["a"]})
        snapshot = taken(source(tmp_path / "in", a__jsonl='{"text": "a", "label": "b"}\n' + long + "\n" + "{" * 10**6))
        assert [one["row"] for one in quarantine(snapshot)] == [json.loads(long), "{" * 10**6]

    @given(
        garbage=st.lists(
            st.binary(max_size=30)
            | st.dictionaries(
                st.sampled_from(["text", "label", "x"]),
                st.none() | st.text(max_size=5) | st.integers() | st.floats() | st.lists(st.booleans(), max_size=2),
            ).map(lambda row: json.dumps(row).encode()),
            max_size=12,
        )
    )
    @examples(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_rows_read_are_rows_kept_and_rows_quarantined(self, tmp_path: Path, garbage: list[bytes]) -> None:
        content = b"\n".join([b'{"text": "good", "label": "a"}', *garbage])
        (tmp_path / "rows.jsonl").write_bytes(content)
        snapshot = taken(tmp_path, source="rows.jsonl")
        read = sum(bool(line.strip()) for line in content.split(b"\n"))
        assert (snapshot.rows, snapshot.quarantined) == (len(rows(snapshot)), len(quarantine(snapshot)))
        assert snapshot.rows + snapshot.quarantined == read
        places = [found["place"] for found in rows(snapshot) + quarantine(snapshot)]
        assert len(set(places)) == read

    def test_a_source_of_nothing_but_garbage_is_for_validate_to_refuse(self, tmp_path: Path) -> None:
        snapshot = taken(source(tmp_path / "in", a__jsonl="garbage\n" * 5))
        assert (snapshot.rows, snapshot.quarantined, rows(snapshot)) == (0, 5, [])


class TestRefusals:
    @pytest.mark.parametrize(
        "files",
        [{"a__jsonl": ""}, {"a__jsonl": "\n\n"}, {"a__csv": "text,label\n"}, {"a__parquet": ""}, {"a__txt": " \n"}],
    )
    def test_a_source_without_rows(self, tmp_path: Path, files: dict[str, str]) -> None:
        assert refusal(source(tmp_path / "in", **files)).code == "E-DATA-EMPTY"

    def test_a_column_that_no_row_has(self, tmp_path: Path) -> None:
        folder = source(tmp_path / "in", a__csv="text,intent,product\na,b,c\nd,e,f\n")
        error = refusal(folder)
        assert error.code == "E-SCHEMA"
        assert error.message == (
            "column 'label' is in none of the 2 rows; found columns 'text', 'intent', 'product'; name it in data.label"
        )
        both = refusal(folder, label="intent", time="at", group="who")
        assert "'at' is in none" in both.message
        assert "data.time, data.group" in both.message

    def test_plain_text_has_no_labels(self, tmp_path: Path) -> None:
        assert "found columns 'text'" in refusal(source(tmp_path / "in", a__txt="one\ntwo\n")).message

    def test_a_refused_source_leaves_nothing_behind(self, tmp_path: Path, home: Path) -> None:
        refusal(source(tmp_path / "in", a__csv='text,label\n"open,x\n'))
        assert list(stages.artifacts().manifests()) == []
        assert list((home / "work").iterdir()) == []

    def test_a_file_that_grows_while_it_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        folder = source(tmp_path / "in", a__jsonl='{"text": "a", "label": "b"}\n' * 10)
        from tasks.data import ingest as module

        def growing(file: Any, name: str) -> Any:
            for found in read(file, name):
                with (folder / "a.jsonl").open("a") as other:
                    other.write('{"text": "late", "label": "b"}\n' if found.number == 5 else "")
                yield found

        read = module.READERS["jsonl"]
        monkeypatch.setitem(module.READERS, "jsonl", growing)
        assert refusal(folder).code == "E-DATA-CHANGED"


class TestPublished:
    """Counts are those of the cards."""

    @pytest.mark.parametrize(
        ("name", "task"),
        [
            ("banking77", TEXT),
            ("sst2", TEXT),
            ("airline_tweets", TEXT),
            ("chnsenticorp", TEXT),
            ("conll2003", TAGS),
            ("wnut17", TAGS),
            ("resume_ner_zh", TAGS),
        ],
    )
    def test_every_row_is_kept(self, name: str, task: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        if not (PUBLISHED / name).is_dir():
            pytest.skip(f"no dataset {PUBLISHED / name}")
        monkeypatch.setenv("VERNAL_DATA", str(PUBLISHED))
        settings.cache_clear()
        card = json.loads((PUBLISHED / name / "card.json").read_text())
        snapshot = taken(tmp_path, task, source=f"{name}/")
        table = pq.read_table(stages.open_file(snapshot.files["rows.parquet"]))
        assert Counter(table["split"].to_pylist()) == card["splits"]
        assert (snapshot.rows, snapshot.quarantined) == (sum(card["splits"].values()), 0)
        if task == TEXT:
            labels = Counter(zip(table["split"].to_pylist(), table["label"].to_pylist(), strict=True))
            assert {split: {k: n for (s, k), n in labels.items() if s == split} for split in card["splits"]} == card[
                "labels"
            ]
        else:
            entities: dict[str, Counter[str]] = {split: Counter() for split in card["splits"]}
            for split, tags in zip(table["split"].to_pylist(), table["tags"].to_pylist(), strict=True):
                entities[split].update(tag[2:] for tag in tags if tag.startswith("B-"))
            assert entities == card["labels"]

    def test_dates_and_other_columns_of_the_airline_tweets_come_along(self, tmp_path: Path) -> None:
        if not (PUBLISHED / "airline_tweets").is_dir():
            pytest.skip(f"no dataset {PUBLISHED / 'airline_tweets'}")
        snapshot = taken(PUBLISHED, source="airline_tweets", time="date", group="airline")
        first = rows(snapshot)[0]
        assert (first["place"], first["time"], first["group"]) == ("test.parquet:1", "2015-02-23T00:02:00", "Southwest")
        assert first["extra"] == [("confidence", "0.6687")]
