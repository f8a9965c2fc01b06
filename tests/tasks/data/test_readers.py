"""What the readers make of good files, bad rows and files that are no data: all of it written here, byte by byte."""

import csv
import gzip
import io
import json
import pickle
import time
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.data.ingest import READERS
from tasks.data.readers import hub, labelled, lines
from tasks.data.readers.lines import Fault, Row
from tasks.errors import BadInput

SUFFIXES = {"jsonl": "jsonl", "json": "json", "csv": "csv", "tsv": "tsv", "text": "txt", "parquet": "parquet"}


def read(format: str, content: bytes, name: str = "") -> list[Row | Fault]:
    file: Any = io.BufferedReader(io.BytesIO(content))
    return list(READERS[format](file, name or f"rows.{SUFFIXES[format]}"))


def only(format: str, content: bytes) -> Row | Fault:
    (found,) = read(format, content)
    return found


def reason(format: str, content: bytes) -> tuple[str, str]:
    found = only(format, content)
    assert isinstance(found, Fault)
    return found.reason, found.detail


def refusal(format: str, content: bytes, name: str = "") -> BadInput:
    with pytest.raises(BadInput) as error:
        read(format, content, name)
    return error.value


def parquet(table: pa.Table, **how: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, **how)
    return out.getvalue()


class TestJsonLines:
    def test_a_line_feed_and_nothing_else_ends_a_line(self) -> None:
        texts = ["a\u0085b", "a\u2028b", "a\x0bb\x0cc\x1cd", "a\rb"]
        content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
        found = read("jsonl", content.encode())
        assert [row.values["text"] for row in found if isinstance(row, Row)] == texts

    def test_blank_lines_windows_ends_and_a_byte_order_mark_are_no_rows_and_no_faults(self) -> None:
        found = read("jsonl", b'\xef\xbb\xbf{"a":1}\r\n\r\n  \n{"a":2}')
        assert found == [Row(1, {"a": 1}), Row(4, {"a": 2})]

    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            (b'{"a": 1', "json-syntax"),
            (b"nonsense", "json-syntax"),
            (b'{"a": "x\x00y"}', "json-syntax"),
            (b'{"a": 1} {"a": 2}', "json-syntax"),
            (b"[1, 2]", "json-shape"),
            (b'"text"', "json-shape"),
            (b"null", "json-shape"),
            (b"3", "json-shape"),
            (b'{"label": "a", "label": "b"}', "json-dupkey"),
            (b'{"a": {"b": 1, "b": 1}}', "json-dupkey"),
            (b'{"a": NaN}', "json-number"),
            (b'{"a": -Infinity}', "json-number"),
            (b'{"a": 1e999}', "json-number"),
            (b'{"a": ' + b"9" * 5000 + b"}", "json-number"),
            (b'{"a": ' + b"[" * 33 + b"]" * 33 + b"}", "json-depth"),
            (b"[" * 200_000, "json-depth"),
            (b'{"a": "caf\xe9"}', "encoding"),
        ],
    )
    def test_a_line_that_is_no_row_gets_its_own_reason(self, line: bytes, expected: str) -> None:
        good = b'{"a": 1}\n'
        before, fault, after = read("jsonl", good + line + b"\n" + good)
        assert (before, after) == (Row(1, {"a": 1}), Row(3, {"a": 1}))
        assert isinstance(fault, Fault)
        assert (fault.number, fault.reason) == (2, expected)

    def test_many_brackets_that_are_not_deep_are_welcome(self) -> None:
        row = {"text": "[" * 100, "tokens": [["a"]] * 50}
        assert only("jsonl", json.dumps(row).encode()) == Row(1, row)

    def test_depth_does_not_depend_on_how_deep_the_caller_stands(self) -> None:
        content = b'{"a": ' + b"[" * 31 + b"]" * 31 + b"}"

        def deeper(left: int) -> Row | Fault:
            return deeper(left - 1) if left else only("jsonl", content)

        assert isinstance(deeper(0), Row)
        assert isinstance(deeper(500), Row)

    def test_a_byte_that_is_not_utf_8_is_named_by_its_place_in_the_file(self) -> None:
        content = b'{"a": "fine"}\n{"a": "caf\xe9"}\n'
        _, fault = read("jsonl", content)
        assert isinstance(fault, Fault)
        assert fault.detail == f"byte {content.index(0xE9)} (0xe9) is not UTF-8"

    def test_a_json_array_is_refused_with_a_way_out(self) -> None:
        for content in (b'[{"a": 1}]', b'\n [\n{"a": 1}\n]', b"[1]", b'[{"data": 1}]', b'{\n "a": 1\n}'):
            error = refusal("json", content)
            assert error.code == "E-DATA-FORMAT"
            assert "jq -c" in error.message

    def test_json_lines_may_be_called_json(self) -> None:
        assert read("json", b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n') == [Row(1, {"a": 1}), Row(2, {"a": 2})]
        packed = gzip.compress(b'{"a": 1}\n{"a": 2}\n')
        assert read("json", packed, "rows.json.gz") == [Row(1, {"a": 1}), Row(2, {"a": 2})]

    def test_a_line_beyond_16_mib_ends_the_reading(self) -> None:
        longest = b'{"a": "' + b"x" * (lines.MAX_LINE - 9) + b'"}'
        assert isinstance(only("jsonl", longest), Row)
        error = refusal("jsonl", b'{"a": 1}\n' + longest + b"  ")
        assert error.code == "E-DATA-LINE"
        assert "line 2" in error.message


def chosen(control: str, *choices: str) -> dict[str, Any]:
    return {"from_name": control, "to_name": "text", "type": "choices", "value": {"choices": list(choices)}}


def task(*annotations: Any, predictions: Any = (), **data: Any) -> dict[str, Any]:
    """A task as Label Studio exports it, as far as it matters."""
    return {"id": 7, "data": {"text": "well"} | data, "annotations": annotations, "predictions": predictions}


def of_task(*annotations: Any, **more: Any) -> Row | Fault:
    return only("json", json.dumps([task(*annotations, **more)], indent=1).encode())


class TestTasksThatWereLabelled:
    def test_a_task_is_a_row_of_its_data_and_of_what_was_chosen(self) -> None:
        results = [chosen("sentiment", "positive"), chosen("topics", "garden", "tools"), chosen("none")]
        results += [{"from_name": "stars", "type": "rating", "value": {"rating": 4}}]
        results += [{"from_name": "days", "type": "number", "value": {"number": 2.5}}]
        results += [{"from_name": "note", "type": "textarea", "value": {"text": ["from a friend"]}}]
        assert of_task({"result": results, "was_cancelled": False}, product="rake") == Row(
            1,
            {
                "text": "well",
                "product": "rake",
                "sentiment": "positive",
                "topics": ["garden", "tools"],
                "none": [],
                "stars": 4,
                "days": 2.5,
                "note": "from a friend",
            },
            data={"text": "well", "product": "rake"},
        )

    def test_the_last_annotation_counts_that_nobody_cancelled(self) -> None:
        words = [{"result": [chosen("label", word)]} for word in ("first", "last")]
        cancelled = {"result": [chosen("label", "cancelled")], "was_cancelled": True}
        guess = {"result": [chosen("label", "guess")], "score": 0.9}
        found = of_task(*words, cancelled, predictions=[guess])
        assert found == Row(1, {"text": "well", "label": "last"}, data={"text": "well"})
        assert isinstance(found, Row)
        assert found.annotated

    def test_a_prediction_alone_makes_an_automatic_row_with_its_confidence(self) -> None:
        guesses = [{"result": [chosen("label", word)], "score": 0.87} for word in ("old", "new")]
        row = Row(1, {"text": "well", "label": "new", "confidence": 0.87}, automatic=True, data={"text": "well"})
        assert not row.annotated
        assert of_task(predictions=guesses) == row
        assert of_task({"result": [], "was_cancelled": True}, predictions=guesses) == row

    def test_a_task_that_is_written_is_read_back_as_the_automatic_row_that_it_was_made_of(self) -> None:
        data = {"text": "well"}
        for choices in ([], ["a"], ["a", "b"]):
            task = labelled.written(data, "label", "text", choices, 0.5, "kind@1")
            row = only("json", json.dumps([task]).encode())
            found = choices if len(choices) != 1 else choices[0]
            assert row == Row(1, data | {"label": found, "confidence": 0.5}, automatic=True, data=data)

    def test_without_either_a_row_is_what_its_data_are(self) -> None:
        assert of_task(label="x") == Row(1, {"text": "well", "label": "x"})

    def test_what_is_chosen_goes_before_what_the_data_say(self) -> None:
        assert of_task({"result": [chosen("text", "b")]}) == Row(1, {"text": "b"}, data={"text": "well"})

    def test_spans_are_left_alone(self) -> None:
        span = {"from_name": "ner", "type": "labels", "value": {"start": 0, "end": 4, "labels": ["X"]}}
        relation = {"type": "relation", "from_id": "a", "to_id": "b"}
        assert of_task({"result": [span, relation, span]}) == Row(1, {"text": "well"}, data={"text": "well"})

    @pytest.mark.parametrize(
        "region",
        [{"start": 0, "end": 4}, {"x": 1, "y": 2, "width": 3, "height": 4}, {"ranges": [{"start": 1, "end": 9}]}],
    )
    def test_what_was_chosen_for_a_region_is_none_of_the_whole_task(self, region: dict[str, Any]) -> None:
        part = chosen("label", "part")
        part["value"] |= region
        alone, both = ({"result": results} for results in ([part], [part, chosen("label", "whole"), part]))
        assert of_task(alone) == Row(1, {"text": "well"}, data={"text": "well"})
        assert of_task(both) == Row(1, {"text": "well", "label": "whole"}, data={"text": "well"})

    @pytest.mark.parametrize(
        ("found", "expected"),
        [
            (3, "task-form"),
            (task("x"), "task-form"),
            (task({"result": {}}), "task-form"),
            (task({"result": [[]]}), "task-form"),
            (task({"result": [chosen("label", "a"), chosen("label", "b")]}), "task-form"),
            (task(predictions=[12]), "task-form"),
            (task({"result": [{"type": "choices", "from_name": 1}]}), "task-form"),
            ({"data": {"text": json.loads("[" * 40 + "]" * 40)}}, "json-depth"),
        ],
    )
    def test_what_is_no_task_is_a_fault_in_its_place(self, found: Any, expected: str) -> None:
        before, fault, after = read("json", json.dumps([task(), found, task()]).encode())
        assert isinstance(fault, Fault)
        assert (fault.number, fault.reason) == (2, expected)
        assert before == after._replace(number=1) == Row(1, {"text": "well"})

    @pytest.mark.parametrize(
        ("content", "told"),
        [
            (b'[{"data": {}},\n{]', "line 2 column 2"),
            (b'[{"data": {}}', "line 1 column 14"),
            (b'[{"data": {}}] {}', "Extra data"),
            (b'[{"data": {"a": 1, "a": 2}}]', "key 'a' stands twice"),
            (b'[{"data": {"a": NaN}}]', "NaN is no JSON"),
            (b'[{"data": {"a": "caf\xe9"}}]', "byte 20 (0xe9)"),
            (b"[" * 200_000, "nested too deep"),
        ],
    )
    def test_a_file_that_is_no_json_is_refused_whole(self, content: bytes, told: str) -> None:
        error = refusal("json", content)
        assert error.code == "E-JSON"
        assert told in error.message

    def test_a_file_too_large_to_be_held_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = json.dumps([task()]).encode()
        monkeypatch.setattr(labelled, "MAX", len(content))
        assert len(read("json", gzip.compress(content), "rows.json.gz")) == 1
        assert refusal("json", content + b"\n").code == "E-JSON"

    def test_no_tasks_are_no_rows(self) -> None:
        assert read("json", b"[]") == read("json", b"") == []


class TestTables:
    def test_quoted_cells_may_hold_everything(self) -> None:
        values = [["a", "b"], ["x,y", 'say "hi"'], ["two\nlines", "\u0085"], ["", "=cmd|'/c calc'!A1"]]
        out = io.StringIO()
        csv.writer(out).writerows(values)
        found = read("csv", out.getvalue().encode())
        assert [list(row.values.values()) for row in found if isinstance(row, Row)] == values[1:]
        assert [row.number for row in found] == [2, 3, 5]

    def test_tabs_part_cells_in_tsv(self) -> None:
        assert only("tsv", b"text\tlabel\na, b\tc\n") == Row(2, {"text": "a, b", "label": "c"})

    def test_rows_of_too_few_or_too_many_cells_are_single_faults(self) -> None:
        found = read("csv", b"a,b\n1,2\n1\n1,2,3\n\n3,4\n")
        assert [found.reason if isinstance(found, Fault) else found.values["a"] for found in found] == [
            "1",
            "csv-ragged",
            "csv-ragged",
            "3",
        ]

    @pytest.mark.parametrize("format", ["csv", "tsv"])
    def test_an_unclosed_quote_does_not_swallow_a_thousand_rows(self, format: str) -> None:
        other = {"csv": b",", "tsv": b"\t"}[format]
        content = b'a,b\n1,2\n3,"open\n' + b"5,6\n" * 1000
        error = refusal(format, content.replace(b",", other))
        assert error.code == "E-CSV-QUOTE"
        assert "opened at line 3 " in error.message

    def test_an_unclosed_quote_is_found_behind_a_closed_one_of_the_same_row(self) -> None:
        error = refusal("csv", b'a,b\n"two\nlines ""here""","open\n5,6\n')
        assert error.code == "E-CSV-QUOTE"
        assert "opened at line 3 " in error.message

    def test_an_unclosed_quote_is_found_when_a_later_quote_seems_to_close_it(self) -> None:
        error = refusal("csv", b'a,b\n1,"open\n2,x\n3,"y"\n4,z\n')
        assert error.code == "E-CSV-QUOTE"
        assert "opened at line 2 " in error.message

    def test_reading_ends_1_mib_after_an_unclosed_quote(self) -> None:
        seen = 0

        class Counted(io.BytesIO):
            def readinto(self, buffer: Any) -> int:
                nonlocal seen
                seen += (found := super().readinto(buffer))
                return found

        content: Any = Counted(b'a,b\n1,"open\n' + b"5,6\n" * 2_000_000)
        with pytest.raises(BadInput, match="E-CSV-QUOTE"):
            list(READERS["csv"](io.BufferedReader(content), "rows.csv"))
        assert seen < 2 << 20

    def test_a_quote_in_the_wrong_place_of_one_line_is_one_fault(self) -> None:
        found = read("csv", b'a,b\n"x"y,2\n3,4\n')
        assert isinstance(found[0], Fault)
        assert found[0].reason == "csv-syntax"
        assert found[1] == Row(3, {"a": "3", "b": "4"})

    def test_a_cell_of_200_kb_is_read(self) -> None:
        row = only("csv", b"a,b\n1," + b"x" * 200_000)
        assert isinstance(row, Row)
        assert len(row.values["b"]) == 200_000

    @pytest.mark.parametrize(
        ("header", "said"),
        [
            (b"a,a\n1,2\n", "'a' stands twice"),
            (b"a,,b\n1,2,3\n", "column 2 of 3 has no name"),
            (b"a,b\r1,2\r3,4\r", "LF"),
            (b"caf\xe9,b\n1,2\n", "byte 3 (0xe9)"),
        ],
    )
    def test_a_header_must_name_every_column_once(self, header: bytes, said: str) -> None:
        error = refusal("csv", header)
        assert error.code == "E-CSV-HEADER"
        assert said in error.message

    def test_nothing_and_a_header_alone_hold_no_rows(self) -> None:
        assert read("csv", b"") == read("csv", b"\n\n") == read("csv", b"a,b\n") == []

    def test_a_byte_that_is_not_utf_8_is_one_fault_with_its_place(self) -> None:
        content = b"a,b\n1,caf\xe9\n3,4\n"
        fault, row = read("csv", content)
        assert isinstance(fault, Fault)
        assert (fault.number, fault.detail) == (2, f"byte {content.index(0xE9)} (0xe9) is not UTF-8")
        assert row == Row(3, {"a": "3", "b": "4"})

    def test_text_has_a_row_a_line_and_one_column(self) -> None:
        found = read("text", "eins\r\n\n zwei \u2028 drei".encode() + b"\ncaf\xe9")
        assert found[:2] == [Row(1, {"text": "eins"}), Row(3, {"text": " zwei \u2028 drei"})]
        assert isinstance(found[2], Fault)
        assert found[2].reason == "encoding"


class TestParquet:
    @pytest.mark.parametrize(
        "value",
        [
            {"text": ["a", "b"], "answer_start": [3, 5]},
            {"text": [], "answer_start": []},
            [{"text": "a", "start": 3}],
            [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}],
            [],
        ],
    )
    def test_structures_of_texts_and_numbers_are_read(self, value: Any) -> None:
        filled = {"text": ["x"], "answer_start": [0]} if isinstance(value, dict) else [{"role": "", "content": ""}]
        filled = [{"text": "x", "start": 0}] if isinstance(value, list) and value and "start" in value[0] else filled
        assert read("parquet", parquet(pa.table({"it": [value, filled]})))[0] == Row(1, {"it": value})

    def test_scalars_and_lists_are_read_and_pictures_left_alone(self) -> None:
        table = pa.table(
            {
                "text": ["a", None],
                "n": [1, 2],
                "tags": [["x"], []],
                "image": [{"bytes": b"", "path": "x"}, None],
                "images": [[{"bytes": b""}], []],
                "tree": [{"inner": {"text": "x"}}, None],
                "cat": pa.array(["u", "v"]).dictionary_encode(),
                "day": pa.array([datetime(2026, 1, 2), None], pa.timestamp("ns")),
                "at": pa.array([datetime(2026, 1, 2, tzinfo=UTC), None], pa.timestamp("ms", "Europe/Berlin")),
            }
        )
        first, second = read("parquet", parquet(table))
        assert isinstance(first, Row)
        assert {**first.values, "at": first.values["at"].isoformat()} == {
            "text": "a",
            "n": 1,
            "tags": ["x"],
            "cat": "u",
            "day": datetime(2026, 1, 2),
            "at": "2026-01-02T00:00:00+00:00",
        }
        assert second == Row(2, {"text": None, "n": 2, "tags": [], "cat": "v", "day": None, "at": None})

    def test_class_numbers_become_the_names_that_hugging_face_kept(self) -> None:
        from datasets import ClassLabel, Dataset, Features, List, Value

        tags = List(ClassLabel(names=["O", "B-X"]))
        features = Features({"text": Value("string"), "label": ClassLabel(names=["no", "yes"]), "tags": tags})
        rows = {"text": ["a", "b"], "label": [1, -1], "tags": [[0, 1], []]}
        dataset = Dataset.from_dict(rows, features=features)
        out = io.BytesIO()
        dataset.to_parquet(out)
        expected = [
            Row(1, {"text": "a", "label": "yes", "tags": ["O", "B-X"]}),
            Row(2, {"text": "b", "label": None, "tags": []}),
        ]
        assert read("parquet", out.getvalue()) == expected
        assert list(hub.rows(dataset.to_iterable_dataset(), "org/name")) == expected

    def test_text_that_is_not_utf_8_is_a_fault_of_its_row(self) -> None:
        bad = pa.Array.from_buffers(pa.string(), 3, pa.array([b"ok", b"caf\xe9", b"fine"]).buffers())
        found = read("parquet", parquet(pa.table({"text": bad})))
        assert [type(one) for one in found] == [Row, Fault, Row]
        assert isinstance(found[1], Fault)
        assert (found[1].number, found[1].reason) == (2, "encoding")

    def test_a_broken_file_is_refused(self) -> None:
        whole = parquet(pa.table({"text": [f"{i}" * 50 for i in range(5000)]}), compression="none")
        for content in (whole[:-4], whole[: len(whole) // 2], b"PAR1", b"something else", b"PAR1" + bytes(500)):
            assert refusal("parquet", content).code == "E-PARQUET"

    def test_one_name_for_two_columns_and_ten_thousand_columns_are_refused(self) -> None:
        twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
        assert refusal("parquet", parquet(twice)).code == "E-PARQUET"
        wide = pa.table({f"c{i}": [1] for i in range(10_001)})
        assert refusal("parquet", parquet(wide)).code == "E-PARQUET"

    def test_a_parquet_bomb_is_refused_before_it_is_unpacked(self) -> None:
        table = pa.table({"text": ["x" * (1 << 20)] * 80})
        bomb = parquet(table, compression="zstd", use_dictionary=False)
        assert len(bomb) < 1 << 20
        assert refusal("parquet", bomb).code == "E-DATA-BOMB"


class TestOtherThanNamed:
    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (pickle.dumps({"a": 1}), "pickle"),
            (b"\x7fELF\x02\x01\x01", "ELF"),
            (b"\n <!DOCTYPE html><html>", "HTML"),
            (b"<html><body>502", "HTML"),
            (b"<?xml version='1.0'?><Error>", "XML"),
            (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
            (b"PK\x03\x04rest", "zip"),
            ('{"a": 1}'.encode("utf-16"), "UTF-16"),
            (parquet(pa.table({"a": [1]})), "Parquet"),
            (gzip.compress(b'{"a": 1}', mtime=0), "gzip"),
        ],
    )
    def test_its_first_bytes_give_it_away(self, content: bytes, said: str) -> None:
        for format in ("jsonl", "csv", "tsv", "text"):
            error = refusal(format, content)
            assert error.code == "E-DATA-MAGIC"
            assert said in error.message
        packed = refusal("jsonl", gzip.compress(content), "rows.jsonl.gz")
        assert packed.code == "E-DATA-MAGIC"

    def test_parquet_may_be_something_else_too(self) -> None:
        assert refusal("parquet", b"<html>").code == "E-DATA-MAGIC"

    def test_a_name_in_gz_needs_gzip_inside(self) -> None:
        assert refusal("jsonl", b'{"a": 1}', "rows.jsonl.gz").code == "E-DATA-GZIP"
        assert refusal("jsonl", b"<html>", "rows.jsonl.gz").code == "E-DATA-MAGIC"


class TestPacked:
    def test_a_packed_file_reads_like_the_plain_one(self) -> None:
        content = b"".join(b'{"a": %d}\n' % i for i in range(10_000))
        assert read("jsonl", gzip.compress(content), "rows.jsonl.gz") == read("jsonl", content)
        assert read("csv", gzip.compress(b"a,b\n1,2\n"), "ROWS.CSV.GZ") == [Row(2, {"a": "1", "b": "2"})]

    def test_a_cut_or_damaged_one_is_refused(self) -> None:
        whole = gzip.compress(b"".join(b'{"a": %d}\n' % (i * i) for i in range(10_000)))
        wounded = bytearray(whole)
        wounded[len(whole) // 2] ^= 0xFF
        for content in (whole[: len(whole) // 2], whole[:-4], bytes(wounded)):
            assert refusal("jsonl", content, "rows.jsonl.gz").code == "E-DATA-GZIP"

    @pytest.mark.parametrize("line", [b'{"a": "' + b"x" * 9990 + b'"}\n', b"0" * 10_000])
    def test_a_bomb_is_refused_long_before_its_end(self, line: bytes) -> None:
        bomb = gzip.compress(line * 8000, 9)  # 80 MB from 0.08 MB
        began = time.monotonic()
        error = refusal("jsonl", bomb, "rows.jsonl.gz")
        assert error.code == "E-DATA-BOMB"
        assert "> 100" in error.message
        assert time.monotonic() - began < 5

    def test_rows_that_repeat_may_be_packed_well(self) -> None:
        content = b'{"a": "the same row again and again"}\n' * 50_000
        packed = gzip.compress(content, 9)
        assert len(content) > 100 * len(packed)
        assert len(read("jsonl", packed, "rows.jsonl.gz")) == 50_000


_garbage = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.text(max_size=20).map(lambda text: text.encode(errors="surrogatepass")),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        ).map(lambda value: json.dumps(value).encode()),
    ).map(lambda line: line.replace(b"\n", b" ")),
    max_size=20,
)


@given(_garbage)
@example([b"\xef\xbb\xbf"])
def test_every_line_that_is_not_blank_is_a_row_or_a_fault(garbage: list[bytes]) -> None:
    content = b'{"first": 1}\n' + b"\n".join(garbage)
    expected = [number for number, line in enumerate(content.split(b"\n"), 1) if line.strip()]
    assert [found.number for found in read("jsonl", content)] == expected


@given(st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=4)))
def test_every_record_that_a_writer_writes_is_a_row_or_ragged(records: list[list[str]]) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL).writerows([["a", "b"], *records])
    found = read("csv", out.getvalue().encode())
    assert len(found) == len(records)
    for record, one in zip(records, found, strict=True):
        assert isinstance(one, Row) == (len(record) == 2)
        if isinstance(one, Row):
            assert list(one.values.values()) == record
