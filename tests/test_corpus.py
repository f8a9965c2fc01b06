"""Every bad input gets its answer: exit code 2, one line that says what, where and what to do, and nothing left behind.

A folder of `corpus/` is one input: a recipe with what it names, and `expect.json` with the answer. `says` are fragments
of the line, `hides` what must not be shown; `generate` describes files that are too large or too binary to lie there.
"""

import gzip
import io
import json
import logging
import os
import pickle
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from flows.__main__ import main

CORPUS = Path(__file__).parent / "corpus"
CASES = sorted(path.parent.relative_to(CORPUS).as_posix() for path in CORPUS.glob("*/*/expect.json"))
IN_REAL_PROCESSES = (  # to the recipe, and to the base: what is wrong with data comes to light on the way there
    "recipe/R18-credentials",
    pytest.param("data/D13-html-page", marks=pytest.mark.matrix),
    "model/M01-pickle-only",
)
LOG_LINE = re.compile(r"\d\d:\d\d:\d\d  ")


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the case's folder, complete, as the working directory."""
    folder = shutil.copytree(CORPUS / request.param, tmp_path / request.param)
    for entry in json.loads((folder / "expect.json").read_bytes()).get("generate", []):
        (folder / entry["name"]).write_bytes(generated(entry, folder))
    if folder.parent.name != "recipe":
        request.getfixturevalue("prefect_server")
        monkeypatch.setattr(logging.getLogger(), "handlers", [silent()])
    monkeypatch.chdir(folder)
    return folder


def silent() -> logging.Handler:
    """A handler that keeps Prefect from installing one, which would write to the stderr of an earlier test."""
    handler = logging.NullHandler()
    handler.setFormatter(logging.Formatter())
    return handler


def generated(entry: dict[str, Any], folder: Path) -> bytes:
    """The bytes that an entry describes, less `cut` at their end."""
    if "repeat" in entry:
        content = (entry.get("after", "") + entry["repeat"] * entry["times"]).encode()
        return gzip.compress(content) if entry["name"].endswith(".gz") else content
    if "pickle" in entry:
        return pickle.dumps(Payload(entry["pickle"]))
    if "header" in entry:
        header = entry["header"].encode()
        return struct.pack("<Q", entry.get("length", len(header))) + header + bytes(entry.get("body", 0))
    makes = parquet if "columns" in entry else saved if entry.keys() & {"torch", "state_dict"} else None
    whole = makes(entry) if makes else weights(entry, folder)
    return whole[: len(whole) - entry.get("cut", 0)]


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.name,)


def parquet(entry: dict[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(entry["columns"]), sink)
    return bytes(sink.getvalue().to_pybytes())


def saved(entry: dict[str, Any]) -> bytes:
    """What `torch.save` makes of a payload, or of a state dict of that many numbers, which may be `expanded`."""
    import torch

    weight = torch.zeros(entry.get("state_dict", 1)).expand(entry.get("expanded", 1), -1)
    sink = io.BytesIO()
    torch.save(Payload(entry["torch"]) if "torch" in entry else {"weight": weight}, sink)
    return sink.getvalue()


def weights(entry: dict[str, Any], folder: Path) -> bytes:
    """A model of the config `weights_of`, drawn at random, with NaN in the tensor that `nan` names."""
    import torch
    from safetensors.torch import save
    from transformers import AutoConfig, AutoModel

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(folder / entry["weights_of"], local_files_only=True)
    tensors = dict(AutoModel.from_config(config).state_dict())
    if "nan" in entry:
        tensors[entry["nan"]] = torch.full_like(tensors[entry["nan"]], torch.nan)
    return save(tensors, {"format": "pt"})


def assert_answered(expect: dict[str, Any], exit_code: int, out: str, err: str) -> None:
    lines = [line for line in err.splitlines() if not LOG_LINE.match(line)]
    assert len(lines) == 1, err
    assert err.endswith(f"{lines[0]}\n")
    assert lines[0].split()[0] == expect["code"], err
    assert [said for said in expect["says"] if said not in lines[0]] == [], err
    assert [hidden for hidden in expect.get("hides", []) if hidden in out + err] == []
    assert exit_code == expect["exit"]
    assert out == ""


def assert_nothing_is_left(home: Path) -> None:
    assert not list((home / "work").glob("*"))
    assert not list(home.parent.rglob("touched")), "code out of the input was run"
    assert not (home / "store" / "manifests" / "register").exists()
    if (home / "mlflow.db").exists():
        with sqlite3.connect(home / "mlflow.db") as registry:
            assert registry.execute("SELECT count(*) FROM model_versions").fetchone() == (0,)
            assert registry.execute("SELECT count(*) FROM runs WHERE status = 'RUNNING'").fetchone() == (0,)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_a_bad_input_is_answered_in_one_line(case: Path, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    expect = json.loads((case / "expect.json").read_bytes())
    capfd.readouterr()
    began = time.process_time()

    exit_code = main(["run", str(case / "recipe.yaml")])

    seconds = time.process_time() - began
    assert_answered(expect, exit_code, *capfd.readouterr())
    assert_nothing_is_left(home)
    assert seconds < (1 if case.parent.name == "recipe" else 20)


@pytest.mark.parametrize("case", IN_REAL_PROCESSES, indirect=True)
def test_a_real_process_shows_no_traceback(case: Path, home: Path) -> None:
    expect = json.loads((case / "expect.json").read_bytes())

    done = run_in_a_process(case)

    assert_answered(expect, done.returncode, done.stdout, done.stderr)
    assert_nothing_is_left(home)


def run_in_a_process(folder: Path) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PYTHONPATH": str(CORPUS.parents[1])}
    environment.pop("PREFECT_API_URL", None)  # a server of its own, as for a person
    command = [sys.executable, "-m", "flows", "run", "recipe.yaml"]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("case", ["model/M03-truncated"], indirect=True)
def test_the_rows_and_weights_that_the_corpus_breaks_are_taken_whole(case: Path) -> None:
    from tasks import recipe
    from tasks.data.ingest import ingest
    from tasks.data.validate import validate
    from tasks.model.load import load

    whole = weights({"weights_of": "base/config.json"}, case)
    assert whole[:-1] == (case / "base" / "model.safetensors").read_bytes()
    (case / "base" / "model.safetensors").write_bytes(whole)
    what = recipe.load(case / "recipe.yaml")

    checked = validate.fn(ingest.fn(what.data, what.task, str(case)), what.task, what.data, what.rules)

    assert checked.quarantined == 0
    assert sum(checked.rows.values()) == 24
    assert load.fn(what.model, str(case)).parameters == 400 + 464 + 72  # embeddings, layer, pooler


WATCHED = """
import json, pickle, sys
from pathlib import Path
from tasks import recipe
from tasks.data.tokenise import own_tokenizer
from tasks.errors import Coded
from tasks.model.load import load

root, seen = Path.cwd(), []
FORBIDDEN = ("os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pickle.find_class",
             "socket.connect", "socket.getaddrinfo", "socket.bind")

def watch(event, given):
    planted = event == "os.mkdir" and str(given[0]).endswith("touched")
    code = event == "exec" and str(root) in given[0].co_filename
    if planted or code or event in FORBIDDEN:
        seen.append([event, repr(given)[:200]])
        raise RuntimeError(event)

sys.addaudithook(watch)
for proof in (lambda: pickle.loads(Path("proof.pickle").read_bytes()), lambda: exec(compile("1", str(root), "exec"))):
    try: proof()
    except RuntimeError: pass
proved, seen[:] = [event for event, _ in seen], []
answers = {}
for case in sorted(root.glob("M*/recipe.yaml")):
    try: own_tokenizer(root / f"of-{case.parent.name}", load.fn(recipe.load(case).model, str(case.parent)), 16)
    except Coded as error: answers[case.parent.name] = error.code
print(json.dumps({"proved": proved, "seen": seen, "answers": answers}))
"""


def test_no_model_file_runs_code_starts_a_process_or_opens_a_socket(tmp_path: Path) -> None:
    expected = {}
    for path in CORPUS.glob("model/*/expect.json"):
        expect = json.loads(path.read_bytes())
        folder = shutil.copytree(path.parent, tmp_path / path.parent.name)
        for entry in expect.get("generate", []):
            (folder / entry["name"]).write_bytes(generated(entry, folder))
        expected[path.parent.name] = expect["code"]
    (tmp_path / "proof.pickle").write_bytes(pickle.dumps(Payload("touched")))
    environment = {**os.environ, "PYTHONPATH": str(CORPUS.parents[1])}

    done = subprocess.run(
        [sys.executable, "-c", WATCHED], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )

    found = json.loads(done.stdout.splitlines()[-1])
    assert found["proved"] == ["pickle.find_class", "exec"], "the watch sees what is forbidden"
    assert found["seen"] == []
    assert found["answers"] == expected
    assert not list(tmp_path.rglob("touched"))
