"""Which parts a location means, what their fingerprints depend on, and that a changed file is noticed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from infra.errors import Coded
from infra.local.s3 import LocalS3
from infra.settings import settings
from infra.storage import S3Bucket
from tasks.data import sources
from tasks.data.sources import Part, fingerprint, locate, opened, resolve
from tasks.errors import BadInput
from tasks.recipe import Files

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("VERNAL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("VERNAL_DATA", raising=False)
    settings.cache_clear()
    yield tmp_path / "home"
    settings.cache_clear()


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(f"content of {name}\n".encode(errors="replace"))
    return folder


def names(source: Any, beside: Path) -> list[tuple[str, str]]:
    return [(part.name, part.split) for part in resolve(source, beside)]


def refusal(source: Any, beside: Path) -> BadInput:
    with pytest.raises(BadInput) as error:
        resolve(source, beside)
    return error.value


class TestLocating:
    def test_beside_the_recipe_comes_before_the_root(self, tmp_path: Path) -> None:
        near, far = write(tmp_path / "near", "a/x.csv"), write(tmp_path / "far", "a/x.csv", "b.csv")
        assert locate("a", near, str(far)) == str(near / "a")
        assert locate("b.csv", near, str(far)) == str(far / "b.csv")
        assert locate(str(far / "b.csv"), near, "") == str(far / "b.csv")

    def test_a_root_in_s3_is_the_last_resort_of_relative_names(self, tmp_path: Path) -> None:
        write(tmp_path, "here.csv")
        assert locate("here.csv", tmp_path, "s3://bucket/data/") == str(tmp_path / "here.csv")
        assert locate("sst2/", tmp_path, "s3://bucket/data/") == "s3://bucket/data/sst2/"
        for outside in ("../x.csv", str(tmp_path / "x.csv")):
            with pytest.raises(BadInput, match="E-SOURCE-MISSING"):
                locate(outside, tmp_path, "s3://bucket/data")

    def test_what_is_nowhere_is_told_with_every_place_that_was_looked_at(self, tmp_path: Path) -> None:
        with pytest.raises(BadInput) as error:
            locate("sst2/", tmp_path / "recipes", str(tmp_path / "data"))
        assert error.value.code == "E-SOURCE-MISSING"
        assert str(tmp_path / "recipes" / "sst2") in error.value.message
        assert str(tmp_path / "data" / "sst2") in error.value.message

    def test_a_url_is_what_it_is(self, tmp_path: Path) -> None:
        assert locate("s3://bucket/x", tmp_path, "/data") == "s3://bucket/x"

    def test_the_data_root_is_that_of_the_settings(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(tmp_path / "root", "set/train.csv")
        monkeypatch.setenv("VERNAL_DATA", str(tmp_path / "root"))
        settings.cache_clear()
        assert names("set/", tmp_path) == [("train.csv", "train")]


class TestParts:
    def test_file_names_give_the_splits_of_a_folder(self, tmp_path: Path) -> None:
        for i, validation in enumerate(("validation", "valid", "val", "dev")):
            folder = write(
                tmp_path / str(i), "train.jsonl", f"{validation}.jsonl", "test.jsonl", "card.json", "old.csv"
            )
            assert names(f"{i}", tmp_path) == [
                ("test.jsonl", "test"),
                ("train.jsonl", "train"),
                (f"{validation}.jsonl", "validation"),
            ]
            assert len(list(folder.iterdir())) == 5

    def test_shards_and_packed_files_give_splits_too(self, tmp_path: Path) -> None:
        write(tmp_path, "data/train-00000-of-00002.parquet", "data/train-00001-of-00002.parquet", "test.csv.gz")
        assert names(".", tmp_path) == [
            ("test.csv.gz", "test"),
            ("data/train-00000-of-00002.parquet", "train"),
            ("data/train-00001-of-00002.parquet", "train"),
        ]

    def test_other_folders_give_all_their_rows_without_a_split(self, tmp_path: Path) -> None:
        write(tmp_path, "2026/01.jsonl", "2026/02.csv", "card.json", "README.txt", "x.png", ".git/a.csv", "_tmp/b.csv")
        assert names(".", tmp_path) == [("2026/01.jsonl", ""), ("2026/02.csv", "")]

    def test_json_and_text_count_where_there_is_nothing_else(self, tmp_path: Path) -> None:
        write(tmp_path, "a.json", "b.txt")
        assert names(".", tmp_path) == [("a.json", ""), ("b.txt", "")]

    def test_a_glob_takes_files_and_folders(self, tmp_path: Path) -> None:
        write(tmp_path, "in/2026-01/a.csv", "in/2026-02/a.csv", "in/2025-01/a.csv", "in/2026-03.csv")
        expected = [("2026-01/a.csv", ""), ("2026-02/a.csv", ""), ("2026-03.csv", "")]
        assert names("in/2026-*", tmp_path) == names(str(tmp_path / "in/2026-*"), tmp_path) == expected

    def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(self, tmp_path: Path) -> None:
        write(tmp_path / "[x]", "a.csv", "b/c.csv")
        assert names("[x]", tmp_path) == [("a.csv", ""), ("b/c.csv", "")]
        assert [part.format for part in resolve("*.csv", tmp_path / "[x]")] == ["csv"]

    def test_one_file_has_no_split_whatever_its_name(self, tmp_path: Path) -> None:
        write(tmp_path, "test.tsv")
        (part,) = resolve("test.tsv", tmp_path)
        assert (part.name, part.split, part.format) == ("test.tsv", "", "tsv")

    def test_each_split_may_have_a_location(self, tmp_path: Path) -> None:
        write(tmp_path, "a.csv", "b/test.csv", "b/train.csv", "c/x.csv", "c/y.csv")
        source = Files(train="c", validation="a.csv", test="b")
        assert names(source, tmp_path) == [
            ("test/test.csv", "test"),
            ("train/x.csv", "train"),
            ("train/y.csv", "train"),
            ("validation/a.csv", "validation"),
        ]

    def test_a_location_given_for_a_split_that_it_has_not_is_refused(self, tmp_path: Path) -> None:
        write(tmp_path, "b/test.csv", "b/train.csv")
        error = refusal(Files(train="b", validation="b"), tmp_path)
        assert error.code == "E-SOURCE-SPLIT"
        assert "test and train" in error.message

    def test_a_test_split_among_unnamed_files_is_refused_and_not_lost(self, tmp_path: Path) -> None:
        write(tmp_path, "test.csv", "rows.csv")
        assert refusal(".", tmp_path).code == "E-SOURCE-SPLIT"

    @pytest.mark.parametrize(
        ("source", "code"),
        [
            ("nothing", "E-SOURCE-MISSING"),
            ("*.parquet", "E-SOURCE-MISSING"),
            ("pictures", "E-SOURCE-MISSING"),
            ("table.xlsx", "E-DATA-FORMAT"),
            ("x.parquet.gz", "E-DATA-FORMAT"),
            ("registry://name@champion", "E-SOURCE-SCHEME"),
        ],
    )
    def test_what_holds_no_rows_is_refused(self, source: str, code: str, tmp_path: Path) -> None:
        write(tmp_path, "pictures/a.png", "table.xlsx", "x.parquet.gz")
        assert refusal(source, tmp_path).code == code

    @pytest.mark.parametrize("name", ["a\nINFO fake.csv", "a\x1b[31m.csv", "a\u202e.csv", os.fsdecode(b"caf\xe9.csv")])
    def test_invisible_characters_in_a_file_name_are_refused(self, name: str, tmp_path: Path) -> None:
        write(tmp_path, name)
        error = refusal(".", tmp_path)
        assert error.code == "E-KEY"
        assert error.message.isprintable()

    def test_endless_folders_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sources, "MAX_FILES", 10)
        write(tmp_path, *(f"{i}.csv" for i in range(10)))
        assert len(resolve(".", tmp_path)) == 10
        write(tmp_path, "11.csv")
        assert refusal(".", tmp_path).code == "E-DATA-COUNT"

    def test_a_dataset_of_the_hub_is_known_by_its_revision(self, tmp_path: Path) -> None:
        revision = "0123456789" * 4
        assert resolve(f"hf://org/name@{revision}", tmp_path) == [
            Part("org/name", "", f"hf://org/name@{revision}", revision, "hub")
        ]

    def test_resolving_pays_for_no_library(self, tmp_path: Path) -> None:
        write(tmp_path, "train.parquet")
        code = (
            "import sys, pathlib; from tasks.data import sources; "
            "assert sources.resolve('.', pathlib.Path(sys.argv[1]));"
            "print(*{'pyarrow', 'torch', 'boto3', 'datasets', 'prefect', 'pandas'} & set(sys.modules))"
        )
        command = [sys.executable, "-c", code, str(tmp_path)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == ""


class TestFingerprints:
    def test_they_tell_content_and_not_where_it_lies(self, tmp_path: Path) -> None:
        here, there = (write(tmp_path / place, "train.csv", "test.csv") for place in ("here", "there"))
        first, second = resolve("here", tmp_path), resolve("there", tmp_path)
        assert fingerprint(first) == fingerprint(second) == fingerprint(reversed(first))
        assert first[0].fingerprint == "sha256:" + sha256(b"content of test.csv\n").hexdigest()
        (there / "train.csv").write_text("other")
        assert fingerprint(resolve("there", tmp_path)) != fingerprint(first)
        (here / "test.csv").rename(here / "validation.csv")
        assert fingerprint(resolve("here", tmp_path)) != fingerprint(first)

    def test_a_file_that_stays_as_it_is_may_be_read(self, tmp_path: Path) -> None:
        (part,) = resolve("a.csv", write(tmp_path, "a.csv"))
        with opened(part) as path:
            assert path.read_text() == "content of a.csv\n"

    def test_a_file_that_was_changed_since_it_was_resolved_is_refused(self, tmp_path: Path) -> None:
        (part,) = resolve("a.csv", write(tmp_path, "a.csv"))
        (tmp_path / "a.csv").write_text("CONTENT of a.csv\n")
        with pytest.raises(BadInput, match="E-DATA-CHANGED"), opened(part):
            pass

    def test_a_file_that_is_changed_and_changed_back_while_it_is_read_is_refused(self, tmp_path: Path) -> None:
        (part,) = resolve("a.csv", write(tmp_path, "a.csv"))

        def read() -> None:
            with opened(part) as path:
                path.write_text("other")
                path.write_text("content of a.csv\n")
                os.utime(path, ns=(0, 0))

        with pytest.raises(BadInput, match="E-DATA-CHANGED"):
            read()

    def test_a_file_that_is_gone_is_a_coded_error(self, tmp_path: Path) -> None:
        (part,) = resolve("a.csv", write(tmp_path, "a.csv"))
        (tmp_path / "a.csv").unlink()
        with pytest.raises(BadInput, match="E-SOURCE-MISSING"), opened(part):
            pass


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalS3]:
    try:
        with LocalS3(tmp_path_factory.mktemp("s3")) as server:
            yield server
    except Coded as error:
        pytest.skip(str(error))


@pytest.fixture
def bucket(server: LocalS3, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> S3Bucket:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", server.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", server.secret_key)
    monkeypatch.setenv("VERNAL_S3_ENDPOINT", server.endpoint)
    settings.cache_clear()
    made = S3Bucket(f"rows-{abs(hash(request.node.name)) % 10**9}", "", server.endpoint)
    made.create()
    return made


@pytest.mark.services
class TestS3:
    def test_a_prefix_an_object_and_a_glob_are_sources(self, bucket: S3Bucket, tmp_path: Path) -> None:
        for name in ("t/2026/train.csv", "t/2026/test.csv", "t/2026/card.json", "t/2026-old/a.csv", "t/x.jsonl"):
            bucket.write(name, f"content of {name}\n".encode())
        root = f"s3://{bucket.bucket}"
        expected = [("test.csv", "test"), ("train.csv", "train")]
        assert names(f"{root}/t/2026", tmp_path) == names(f"{root}/t/2026/", tmp_path) == expected
        assert names(f"{root}/t/x.jsonl", tmp_path) == [("x.jsonl", "")]
        assert names(f"{root}/t/2026*/a.csv", tmp_path) == [("2026-old/a.csv", "")]
        assert refusal(f"{root}/none/", tmp_path).code == "E-SOURCE-MISSING"
        for part in resolve(f"{root}/t/2026", tmp_path):
            with opened(part) as path:
                content = path.read_text()
                assert sources.size(part) == len(content)
            assert content == f"content of t/2026/{part.name}\n"
            assert not path.exists()

    def test_an_object_that_was_replaced_since_is_refused(self, bucket: S3Bucket, tmp_path: Path) -> None:
        bucket.write("a.csv", b"one")
        (part,) = resolve(f"s3://{bucket.bucket}/a.csv", tmp_path)
        assert part.fingerprint == "f97c5d29941bfb1b2fdab0874906ab82+3"  # MD5 of "one"
        bucket.write("a.csv", b"two")
        with pytest.raises(BadInput, match="E-DATA-CHANGED"), opened(part):
            pass
