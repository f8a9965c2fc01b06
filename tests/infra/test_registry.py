"""The registry on a real MLflow over SQLite; one database for all, because making one takes seconds."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from infra import registry as module
from infra.errors import Coded, Denied, Missing, Unreachable
from infra.registry import Point, Registry
from tasks import problems

ROOT = Path(__file__).parents[2]

PROGRAM = """
import sys
from pathlib import Path
from infra.registry import Point, Registry

assert "mlflow" not in sys.modules
home = Path(sys.argv[1])
registry = Registry(f"sqlite:///{home}/new/mlflow.db", home / "artifacts")
run = registry.start("silent", "sha256:a", "night", {})
registry.log(run, [Point("loss", 0.5, 1, 1)])
registry.register("silent", "sha256:a", run, home / "bundle", {"text": "text"}, {}, "card")
registry.point("silent", "champion", 1)
registry.end(run, "FINISHED")
"""


@pytest.fixture(scope="module")
def first_use(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A home in which a process of its own has made the database, and what that process said."""
    home = tmp_path_factory.mktemp("mlflow")
    for folder in ("bundle", "elsewhere"):
        (home / folder).mkdir()
    (home / "bundle" / "config.json").write_text("{}")
    command = [sys.executable, "-c", PROGRAM, str(home)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return home, subprocess.run(command, cwd=home / "elsewhere", env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def registry(first_use: tuple[Path, subprocess.CompletedProcess[str]]) -> Registry:
    home, _ = first_use
    return Registry(f"sqlite:///{home}/new/mlflow.db", home / "artifacts")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def run_id(registry: Registry, request: pytest.FixtureRequest) -> str:
    return registry.start("intent", "sha256:" + re.sub(r"\W", "-", request.node.name), "night", {})


def register(registry: Registry, name: str, key: str, run_id: str, bundle: Path) -> int:
    tags = {"vernal.bundle": "sha256:b"}
    return registry.register(name, key, run_id, bundle, {"text": "text"}, tags, "card")


def test_first_use_says_nothing_and_leaves_nothing_where_it_runs(
    first_use: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    home, done = first_use
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list((home / "elsewhere").iterdir()) == []


def test_a_run_is_found_again_by_its_key_and_goes_on(registry: Registry) -> None:
    first = registry.start("intent", "sha256:one", "night", {"attempt": "1"})
    registry.end(first, "KILLED")
    assert registry.start("intent", "sha256:one", "night", {"attempt": "2"}) == first
    assert registry.start("intent", "sha256:two", "night", {}) != first
    run = registry._client.get_run(first)
    assert run.info.status == "RUNNING"
    assert run.data.tags["attempt"] == "2"
    registry.end(first, "FINISHED")
    assert registry._client.get_run(first).info.status == "FINISHED"


def test_of_two_runs_with_one_key_the_older_goes_on_and_the_other_is_closed(registry: Registry) -> None:
    older = registry.start("intent", "sha256:twice", "night", {})
    home = registry._client.get_run(older).info.experiment_id
    stray = registry._client.create_run(home, tags={"vernal.run_key": "sha256:twice"}).info.run_id
    assert registry.start("intent", "sha256:twice", "night", {}) == older
    assert registry._client.get_run(stray).info.status == "KILLED"


def test_an_experiment_deleted_by_hand_is_restored(registry: Registry) -> None:
    run_id = registry.start("deleted", "sha256:one", "night", {})
    registry._client.delete_experiment(registry._client.get_run(run_id).info.experiment_id)
    assert registry.start("deleted", "sha256:two", "night", {}) != run_id


def test_parameters_may_be_sent_again_but_not_changed(registry: Registry, run_id: str) -> None:
    given = {f"train.option_{number}": number for number in range(150)} | {"long": "x" * 9000}
    registry.params(run_id, given)
    registry.params(run_id, given | {"new": None})
    kept = registry._client.get_run(run_id).data.params
    assert len(kept) == 152
    assert (kept["train.option_7"], kept["new"], len(kept["long"])) == ("7", "None", 6000)
    with pytest.raises(Coded) as caught:
        registry.params(run_id, {"new": 1})
    assert caught.value.code == "E-MLFLOW"


def test_points_sent_twice_count_once(registry: Registry, run_id: str) -> None:
    points = [Point("loss", 1 / (step + 1), step, 1_700_000_000_000 + step) for step in range(2500)]
    registry.log(run_id, iter(points))
    registry.log(run_id, points[2000:])
    registry.log(run_id, [])
    history = registry._client.get_metric_history(run_id, "loss")
    assert [(one.step, one.value) for one in history] == [(point.step, point.value) for point in points]
    assert registry._client.get_run(run_id).data.metrics["loss"] == 1 / 2500


def test_a_value_that_is_no_number_is_kept(registry: Registry, run_id: str) -> None:
    registry.log(run_id, [Point("loss", float("nan"), 1, 1), Point("loss", float("inf"), 2, 2)])
    assert [one.step for one in registry._client.get_metric_history(run_id, "loss")] == [1, 2]


def test_files_and_folders_are_kept_below_the_artifact_folder(registry: Registry, run_id: str, bundle: Path) -> None:
    registry.artifact(run_id, bundle / "config.json", "report")
    registry.artifact(run_id, bundle, "bundle")
    kept = registry._artifacts / run_id / "artifacts"
    assert (kept / "report" / "config.json").read_text() == "{}"
    assert (kept / "bundle" / "model.safetensors").read_bytes() == b"weights"


def test_a_version_is_made_once_for_a_key(registry: Registry, run_id: str, bundle: Path) -> None:
    assert register(registry, "once", "sha256:a", run_id, bundle) == 1
    assert register(registry, "once", "sha256:a", run_id, bundle) == 1
    assert register(registry, "once", "sha256:b", run_id, bundle) == 2
    assert registry.tags("once", 1) == {"vernal.key": "sha256:a", "vernal.bundle": "sha256:b"}
    found = registry._client.get_model_version("once", "1")
    assert (found.description, found.run_id, found.source) == ("card", run_id, f"runs:/{run_id}/model")


def test_a_lost_answer_makes_no_second_version(
    registry: Registry, run_id: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = registry._client.create_model_version

    def lost(*given: object, **named: object) -> None:
        create(*given, **named)
        raise ConnectionResetError("the answer never came")

    monkeypatch.setattr(registry._client, "create_model_version", lost)
    assert register(registry, "lost", "sha256:a", run_id, bundle) == 1
    assert len(registry._client.search_model_versions("name = 'lost'")) == 1


def test_of_two_versions_with_one_key_the_lowest_counts(
    registry: Registry, run_id: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = registry._client.create_model_version

    def twice(*given: object, **named: object) -> None:
        create(*given, **named)
        create(*given, **named)

    monkeypatch.setattr(registry._client, "create_model_version", twice)
    assert register(registry, "twice", "sha256:a", run_id, bundle) == 1
    assert "vernal.duplicate" not in registry.tags("twice", 1)
    assert registry.tags("twice", 2)["vernal.duplicate"] == "true"


def test_a_version_that_could_not_be_made_is_an_error(
    registry: Registry, run_id: str, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowException

    def down(*_: object, **__: object) -> None:
        raise MlflowException("API request failed with exception: connection refused")

    monkeypatch.setattr(registry._client, "create_model_version", down)
    with pytest.raises(Unreachable) as caught:
        register(registry, "down", "sha256:a", run_id, bundle)
    assert caught.value.code == "E-MLFLOW-UNAVAILABLE"
    assert registry._client.search_model_versions("name = 'down'") == []


@pytest.mark.parametrize(
    ("inputs", "types"),
    [
        ({"text": "text"}, ["string"]),
        ({"tokens": "words"}, ["array"]),
        ({"text": "text", "pair": "text"}, ["string"] * 2),
    ],
)
def test_a_version_is_a_model_folder_without_pickle_that_says_what_it_takes(
    registry: Registry, run_id: str, bundle: Path, inputs: dict[str, str], types: list[str]
) -> None:
    import yaml

    registry.register(f"folder-{'-'.join(inputs)}", "sha256:a", run_id, bundle, inputs, {}, "")
    folder = registry._artifacts / run_id / "artifacts" / "model"
    described = yaml.safe_load((folder / "MLmodel").read_text())
    columns = json.loads(described["signature"]["inputs"])
    assert [(column["name"], column["type"]) for column in columns] == list(zip(inputs, types, strict=True))
    assert (folder / "artifacts" / "bundle" / "model.safetensors").read_bytes() == b"weights"
    assert [path.name for path in folder.rglob("*.pkl")] == []
    assert (folder / "requirements.txt").read_text().splitlines()[1].startswith("torch==")


def tiny(folder: Path, task: str, labels: list[str]) -> Path:
    """A bundle of a two-word BERT with drawn weights."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertForSequenceClassification, BertForTokenClassification

    folder.mkdir()
    torch.manual_seed(0)
    names = dict(enumerate(labels))
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = BertConfig(
        vocab_size=4, id2label=names, label2id={name: number for number, name in names.items()}, **sizes
    )
    kind = BertForTokenClassification if task == "token-classification" else BertForSequenceClassification
    kind(config).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "late": 2, "parcel": 3}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.save(str(folder / "tokenizer.json"))
    described = {"task": task, "labels": labels, "length": 8, "precision": "fp32"}
    (folder / "bundle.json").write_text(json.dumps(described))
    return folder


@pytest.mark.parametrize(
    ("task", "column", "rows"),
    [
        ("text-classification", "text", ["late parcel", "parcel"]),
        ("token-classification", "tokens", [["late", "parcel"], ["parcel"]]),
    ],
)
def test_mlflow_loads_a_version_and_predicts_what_the_bundle_predicts(
    registry: Registry, run_id: str, tmp_path: Path, task: str, column: str, rows: list[str] | list[list[str]]
) -> None:
    import pandas as pd
    from mlflow import pyfunc

    from tasks.model.bundle import Model

    folder = tiny(tmp_path / "tiny", task, ["O", "delivery"])
    registry.register(f"loaded-{column}", "sha256:a", run_id, folder, dict(problems.named(task).inputs), {}, "")
    loaded = pyfunc.load_model(str(registry._artifacts / run_id / "artifacts" / "model"))
    answers = loaded.predict(pd.DataFrame({column: rows}))
    direct = Model.load(folder).predict(rows)
    assert answers["answer"].tolist() == [one.answer for one in direct]
    assert answers["score"].tolist() == [one.score for one in direct]


def test_aliases_move_and_vanish(registry: Registry, run_id: str, bundle: Path) -> None:
    assert registry.aliases("aliased") == {}
    register(registry, "aliased", "sha256:a", run_id, bundle)
    register(registry, "aliased", "sha256:b", run_id, bundle)
    registry.point("aliased", "champion", 1)
    registry.point("aliased", "champion", 2)
    registry.point("aliased", "previous", 1)
    assert registry.aliases("aliased") == {"champion": 2, "previous": 1}
    registry.unpoint("aliased", "previous")
    registry.unpoint("aliased", "previous")
    registry.unpoint("never-registered", "champion")
    assert registry.aliases("aliased") == {"champion": 2}
    registry.tag("aliased", 2, "vernal.verdict", "promoted")
    assert registry.tags("aliased", 2)["vernal.verdict"] == "promoted"


def test_what_is_not_there_is_missing(registry: Registry) -> None:
    for ask in (
        lambda: registry.tags("never-registered", 1),
        lambda: registry.point("never-registered", "champion", 1),
        lambda: registry.end("0" * 32, "FINISHED"),
    ):
        with pytest.raises(Missing) as caught:
            ask()
        assert caught.value.code == "E-MLFLOW-MISSING"


@pytest.mark.parametrize(
    "name", ["", "<img src=x onerror=1>", "a\nb", "a\n", "../x", "Über", "-a", "a" * 65, "a' or '1"]
)
def test_a_name_that_could_do_harm_never_reaches_mlflow(tmp_path: Path, name: str) -> None:
    untouched = Registry(f"sqlite:///{tmp_path}/mlflow.db", tmp_path)
    for ask in (
        lambda: register(untouched, name, "sha256:a", "0" * 32, tmp_path),
        lambda: untouched.aliases(name),
        lambda: untouched.point(name, "champion", 1),
        lambda: untouched.tags(name, 1),
    ):
        with pytest.raises(Coded) as caught:
            ask()
        assert caught.value.code == "E-NAME"
    assert list(tmp_path.iterdir()) == []


def test_a_key_with_a_quote_is_refused(registry: Registry) -> None:
    with pytest.raises(Coded, match="E-NAME"):
        registry.start("intent", "x' or tags.a != '", "night", {})


def test_a_server_that_is_not_there_is_named_at_once_without_its_password(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        start = time.monotonic()
        with pytest.raises(Unreachable) as caught:
            Registry(f"http://vernal:s3cret@127.0.0.1:{port}", tmp_path).aliases("intent")
    assert time.monotonic() - start < 5
    assert caught.value.code == "E-MLFLOW-UNAVAILABLE"
    assert f"127.0.0.1:{port}" in caught.value.message
    assert "s3cret" not in caught.value.message


def test_a_server_that_accepts_and_says_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(Unreachable, match="E-MLFLOW-UNAVAILABLE"):
            Registry(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path).aliases("intent")
    assert time.monotonic() - start < 5


@pytest.fixture
def answering() -> Iterator[HTTPServer]:
    """An HTTP server that is no MLflow and answers all with `status`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(self.server.status)  # type: ignore[attr-defined]
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"page")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (401, Denied, "E-MLFLOW-AUTH"),
        (403, Denied, "E-MLFLOW-AUTH"),
        (404, Unreachable, "E-MLFLOW-UNAVAILABLE"),
        (200, Unreachable, "E-MLFLOW-UNAVAILABLE"),
    ],
)
def test_a_server_that_refuses_is_told_from_one_that_is_no_mlflow(
    tmp_path: Path, answering: HTTPServer, status: int, kind: type[Coded], code: str
) -> None:
    answering.status = status  # type: ignore[attr-defined]
    with pytest.raises(kind) as caught:
        Registry(f"http://127.0.0.1:{answering.server_port}", tmp_path).aliases("intent")
    assert caught.value.code == code


@pytest.mark.parametrize("uri", ["", "./mlruns", "sqlite://", "postgresql://vernal:s3cret@host/mlflow"])
def test_an_unusable_uri_is_refused_without_its_password(tmp_path: Path, uri: str) -> None:
    with pytest.raises(Coded) as caught:
        Registry(uri, tmp_path).aliases("intent")
    assert caught.value.code == "E-MLFLOW-URI"
    assert "s3cret" not in caught.value.message
