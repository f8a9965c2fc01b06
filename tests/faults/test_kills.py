"""A whole run that is killed, stopped or robbed of a checkpoint ends as if nothing had happened to it.

Each story is `vernal run` in processes of its own and a home of its own: 400 real rows, a real encoder of one layer,
embedded defaults, one thread a process. The stories that tests ask for are begun together and take turns, one a core,
so that the file takes minutes; a test waits for its own.
"""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.plan import VERBS

pytestmark = pytest.mark.faults

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "flows" / "recipes" / "customer_messages.jsonl"
INTENTS = ("late_delivery", "refund_request", "stock_question")
PATIENCE = 300  # seconds that one process may take on a busy machine
STEPS = 57
EXIT = 10  # seconds from a signal to the end, promised of an idle machine

RECIPE = """
name: small
task: text-classification
data: {source: messages.jsonl, label: intent, time: time, split: {by: time, validation: 0.1, test: 0.15}}
tokens: {length: 48, tokenizer: {train: wordpiece, vocabulary: 1000}}
model: {base: {architecture: encoder, num_layers: 1, d_model: 32, num_heads: 2}}
train: {epochs: 3, batch: 16, learning_rate: 5e-3, early_stopping: 0}
"""

Moment = Callable[[Path], bool]  # whether it has come, in this home
Harm = Callable[[Path], None]  # to a blob


@dataclass
class End:
    """How a process ended."""

    code: int
    out: str
    log: str
    seconds: float  # since its signal

    @property
    def stages(self) -> dict[str, dict[str, Any]]:
        assert self.code == 0, self.log
        return dict(json.loads(self.out)["stages"])


@dataclass
class Story:
    """A home in which a run was disturbed and started again."""

    home: Path
    disturbed: End
    committed: dict[str, int]  # stages that were finished then, and when
    checkpoints: list[int]  # steps that were saved then
    runs: list[str]  # statuses of MLflow's runs then
    end: End


@dataclass
class Life:
    """A home and what its processes are given."""

    home: Path
    recipe: Path
    environment: dict[str, str]

    def run(self, moment: Moment | None = None, number: int = signal.SIGKILL) -> End:
        """`vernal run` to its end; when the moment comes, it is sent a signal (SIGKILL: so is every child of it)."""
        self.home.mkdir(exist_ok=True)
        out, log = self.home / "out.json", self.home / "log.txt"
        command = [sys.executable, "-m", "flows", "run", str(self.recipe), "--json"]
        environment = self.environment | {"VERNAL_HOME": str(self.home)}
        with out.open("w") as to_out, log.open("w") as to_log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=to_out, stderr=to_log, start_new_session=True
            )
            try:
                if moment:
                    self._await(moment, process)
                    (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
                began = time.monotonic()
                code = process.wait(PATIENCE)
            finally:
                process.kill()
                process.wait()
        return End(code, out.read_text(), log.read_text(), time.monotonic() - began)

    def _await(self, moment: Moment, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not moment(self.home):
            assert process.poll() is None, f"it ended before the moment came: {(self.home / 'log.txt').read_text()}"
            assert time.monotonic() < deadline, "the moment never came"
            time.sleep(0.002)

    def disturbed(self, moment: Moment, number: int = signal.SIGKILL, harm: Harm | None = None) -> Story:
        """A run that is sent a signal, perhaps loses a blob of its newest checkpoint, and is started again."""
        first = self.run(moment, number)
        then = committed(self.home), list(map(step_of, checkpoints(self.home))), runs(self.home)
        if harm:
            harm(optimizer_of(checkpoints(self.home)[-1]))
        return Story(self.home, first, *then, self.run())


def rows(database: Path, query: str) -> list[tuple[Any, ...]]:
    """What a database answers; nothing if it is busy or has no such table yet."""
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=0)) as connection:
            return connection.execute(query).fetchall()
    except sqlite3.OperationalError:
        return []


def runs(home: Path) -> list[str]:
    return [status for (status,) in rows(home / "mlflow.db", "SELECT status FROM runs")]


def committed(home: Path) -> dict[str, int]:
    manifests = home.glob("store/manifests/*/[0-9a-f]*.json")
    return {each.parent.name: each.stat().st_mtime_ns for each in manifests}


def checkpoints(home: Path) -> list[Path]:
    """Manifests of checkpoints, oldest first."""
    return sorted(home.glob("store/checkpoints/*/manifests/[0-9]*.json"))


def step_of(manifest: Path) -> int:
    return int(manifest.stem)


def optimizer_of(manifest: Path) -> Path:
    digest = json.loads(manifest.read_bytes())["body"]["files"]["optimizer"].removeprefix("sha256:")
    return manifest.parents[1] / "blobs" / digest[:2] / digest


def at_work(verb: str) -> Moment:
    return lambda home: any(home.glob(f"work/{verb}-*"))


def holds(database: str, query: str) -> Moment:
    return lambda home: bool(rows(home / database, query))


def saved(step: int) -> Moment:
    return lambda home: any(step_of(each) >= step for each in checkpoints(home))


def half_made(home: Path) -> bool:
    """MLflow's first tables are there, its last are not."""
    return any(rows(each, "SELECT 1 FROM alembic_version") for each in home.glob("~*/mlflow.db"))


def flip_a_byte(blob: Path) -> None:
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)


def truncate(blob: Path) -> None:
    blob.chmod(0o644)
    os.truncate(blob, blob.stat().st_size // 2)


KILLS: dict[str, Moment] = {
    **{f"{verb} at work": at_work(verb) for verb in VERBS},
    "MLflow's tables half made": half_made,
    "a second epoch begun": saved(20),
    "a version made": holds("mlflow.db", "SELECT 1 FROM model_versions"),
    "a decision written": holds("ledger.db", "SELECT 1 FROM decisions"),
}
STOPS = {"SIGTERM": 143, "SIGINT": 130}
AFTERWARDS = "SIGTERM in the exam"
HARMS: dict[str, Harm] = {"flipped": flip_a_byte, "truncated": truncate, "deleted": Path.unlink}

STORIES: dict[str, Callable[[Life], Story]] = {
    **{name: lambda life, moment=moment: life.disturbed(moment) for name, moment in KILLS.items()},
    **{name: lambda life, name=name: life.disturbed(saved(10), signal.Signals[name]) for name in STOPS},
    AFTERWARDS: lambda life: life.disturbed(at_work("evaluate"), signal.SIGTERM),
    **{name: lambda life, harm=harm: life.disturbed(saved(20), harm=harm) for name, harm in HARMS.items()},
}


@pytest.fixture(scope="module")
def alive(prefect_server: None, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Life]:
    """New lives, all with the same recipe and the same Prefect server."""
    from prefect.settings import PREFECT_API_URL

    folder = tmp_path_factory.mktemp("lives")
    messages = [line for line in SAMPLE.read_text().splitlines() if json.loads(line)["intent"] in INTENTS]
    (folder / "messages.jsonl").write_text("\n".join(messages[:400]) + "\n")
    (folder / "small.yaml").write_text(RECIPE)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VERNAL_", "PREFECT_"))}
    environment |= {
        "PREFECT_API_URL": str(PREFECT_API_URL.value()),
        "PREFECT_HOME": str(folder / "prefect"),
        "VERNAL_CHECKPOINT_SECONDS": "0.2",  # every few steps
        "OMP_NUM_THREADS": "1",
    }
    return lambda name: Life(folder / name.replace(" ", "-"), folder / "small.yaml", environment)


@pytest.fixture(scope="module")
def undisturbed(alive: Callable[[str], Life]) -> dict[str, str]:
    """Digests of all stages of a run that nothing happened to."""
    end = alive("undisturbed").run()
    return {verb: stage["digest"] for verb, stage in end.stages.items()}


@pytest.fixture(scope="module")
def stories(request: pytest.FixtureRequest, alive: Callable[[str], Life]) -> Iterator[dict[str, Future[Story]]]:
    """Those that tests of this session will ask for, under way."""
    asked = {item.callspec.params.get("name"): None for item in request.session.items if hasattr(item, "callspec")}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield {name: pool.submit(STORIES[name], alive(name)) for name in asked if name in STORIES}
        pool.shutdown(cancel_futures=True)


def ends_as_if_undisturbed(story: Story, undisturbed: dict[str, str]) -> None:
    stages = story.end.stages
    assert {verb: stage["digest"] for verb, stage in stages.items()} == undisturbed
    assert {verb for verb, stage in stages.items() if stage["reused"]} == set(story.committed)
    assert committed(story.home) | story.committed == committed(story.home)
    assert rows(story.home / "mlflow.db", "SELECT version FROM model_versions") == [(1,)]
    assert rows(story.home / "mlflow.db", "SELECT alias, version FROM registered_model_aliases") == [("champion", 1)]
    assert rows(story.home / "ledger.db", "SELECT version, kind FROM decisions") == [(1, "promoted")]
    assert runs(story.home) == ["FINISHED"]
    assert not list(story.home.glob("work/*"))
    assert not [*story.home.glob("store/checkpoints/*/blobs/*/[0-9a-f]*"), *checkpoints(story.home)]


@pytest.mark.parametrize("name", KILLS)
def test_a_run_that_is_killed_ends_as_if_undisturbed(
    name: str, undisturbed: dict[str, str], stories: dict[str, Future[Story]]
) -> None:
    story = stories[name].result()
    assert story.disturbed.code == -signal.SIGKILL
    assert len(story.committed) < len(VERBS)
    ends_as_if_undisturbed(story, undisturbed)


@pytest.mark.parametrize("name", ["a second epoch begun"])
def test_a_killed_training_goes_on_from_its_newest_checkpoint(name: str, stories: dict[str, Future[Story]]) -> None:
    story = stories[name].result()
    assert f"from step {max(story.checkpoints)}\n" in story.end.log


@pytest.mark.parametrize("name", ["a decision written"])
def test_who_waits_for_the_lease_of_a_dead_holder_says_so(name: str, stories: dict[str, Future[Story]]) -> None:
    story = stories[name].result()
    assert re.search(r"^\S+  'run:sha256:[0-9a-f]{64}' is held by .*; waiting", story.end.log, re.MULTILINE)


@pytest.mark.parametrize("name", STOPS)
def test_a_training_that_is_stopped_saves_its_step_says_one_line_and_goes_on_later(
    name: str, undisturbed: dict[str, str], stories: dict[str, Future[Story]]
) -> None:
    story = stories[name].result()
    assert story.disturbed.code == STOPS[name]
    assert story.disturbed.seconds < 2 * EXIT
    assert story.disturbed.out == ""
    (said,) = re.findall(rf"^E-INTERRUPTED {name} at step (\d+) of {STEPS}: .*$", story.disturbed.log, re.MULTILINE)
    assert "Traceback" not in story.disturbed.log
    assert max(story.checkpoints) == int(said) < STEPS
    assert f"from step {said}\n" in story.end.log
    ends_as_if_undisturbed(story, undisturbed)


@pytest.mark.parametrize("name", [AFTERWARDS])
def test_a_run_that_is_stopped_outside_of_training_says_one_line_and_goes_on_later(
    name: str, undisturbed: dict[str, str], stories: dict[str, Future[Story]]
) -> None:
    story = stories[name].result()
    assert story.disturbed.code == 143
    assert story.disturbed.seconds < 2 * EXIT
    assert story.disturbed.log.splitlines()[-1].startswith("E-INTERRUPTED SIGTERM; ")
    assert "Traceback" not in story.disturbed.log
    ends_as_if_undisturbed(story, undisturbed)


@pytest.mark.parametrize("name", HARMS)
def test_a_damaged_checkpoint_is_passed_over_with_a_warning_and_the_one_before_is_taken(
    name: str, undisturbed: dict[str, str], stories: dict[str, Future[Story]]
) -> None:
    story = stories[name].result()
    before, newest = story.checkpoints[-2:]
    assert f"W-CKPT step {newest} is damaged" in story.end.log
    assert f"from step {before}\n" in story.end.log
    ends_as_if_undisturbed(story, undisturbed)
