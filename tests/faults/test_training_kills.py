"""Training killed at random instants ends with the bytes of a run that nobody disturbed.

Children are forked from a process that has imported everything, so that a life costs what it trains and no more.
"""

import contextlib
import hashlib
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from infra.settings import settings
from tasks import stages
from tasks.data.ingest import ingest
from tasks.data.tokenise import tokenise
from tasks.data.validate import validate
from tasks.errors import Interrupted
from tasks.model import launch
from tasks.model.load import load
from tasks.model.training import Job, train
from tasks.model.world import World
from tests import makers

pytestmark = pytest.mark.faults

KILLS, STOPS, RANKS = 30, 10, 5
HOW: dict[str, Any] = {
    "epochs": 40,
    "batch": 16,
    "micro_batch": 6,  # three parts a step
    "learning_rate": 3e-3,
    "precision": "fp32",
    "early_stopping": 12,
}
BASE = {**makers.ENCODER, "dropout": 0.1}


@dataclass
class Place:
    """A home with a job laid out in it."""

    home: Path
    job: Job

    @property
    def folder(self) -> Path:
        return self.home / "job"

    @property
    def weights(self) -> str:
        """SHA-256 of the trained weights."""
        return hashlib.sha256((self.folder / "trained" / "model.safetensors").read_bytes()).hexdigest()

    @property
    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there."""
        return [int(path.stem) for path in sorted(self.home.glob("store/checkpoints/*/manifests/*.json"))]


def lived(home: Path, job: Job, folder: Path) -> None:
    """What a child does: the job, to its end or to a signal."""
    with makers.at_home(home):
        os.environ["VERNAL_CHECKPOINT_SECONDS"] = "0.02"
        settings.cache_clear()
        together = job.train.launch == "torchrun"
        try:
            launch.together(folder, job) if together else train(folder, job, World())
        except Interrupted as error:
            (folder / "interrupted").write_text(error.message)
            os._exit(error.exit_code)


@pytest.fixture(scope="module")
def context() -> multiprocessing.context.ForkServerContext:
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(["tests.faults.test_training_kills"])
    return found


@pytest.fixture
def place(tmp_path: Path) -> Callable[..., Place]:
    def laid_out(name: str, **dials: Any) -> Place:
        home = tmp_path / name / "home"
        with makers.at_home(home):
            what = makers.recipe(train={**HOW, **dials}, model={"base": BASE})
            beside = home.parent / "recipe"
            makers.rows_of(what.task, 300, beside)
            checked = validate.fn(ingest.fn(what.data, what.task, str(beside)), what.task, what.data, what.rules)
            base = load.fn(what.model, str(beside))
            shards = tokenise.fn(checked, base, what.task, what.tokens)
            stages.checkout(shards.files, home / "job" / "shards")
            stages.checkout(base.files, home / "job" / "base")
        job = Job(
            base=base,
            data=shards,
            task=what.task,
            train=what.train,
            name="small",
            run_key=what.digest,
            checkpoints="checkpoints/run",
        )
        return Place(home, job)

    return laid_out


@contextlib.contextmanager
def alive(context: multiprocessing.context.ForkServerContext, place: Place) -> Iterator[BaseProcess]:
    child = context.Process(target=lived, args=(place.home, place.job, place.folder))
    child.start()
    try:
        yield child
    finally:
        child.kill()
        child.join()


def finish(context: multiprocessing.context.ForkServerContext, place: Place) -> float:
    """Lets a child train to the end; the seconds that it took."""
    began = time.monotonic()
    with alive(context, place) as child:
        child.join(300)
        assert child.exitcode == 0
    return time.monotonic() - began


def test_thirty_kills_at_random_instants_change_no_byte(
    context: multiprocessing.context.ForkServerContext, place: Callable[..., Place]
) -> None:
    whole = place("whole")
    finish(context, whole)
    seconds = finish(context, again := place("again"))
    assert again.weights == whole.weights
    draw, disturbed, found = random.Random(0), 0, []
    for number in range(KILLS):
        there = place(f"kill-{number}")
        with alive(context, there) as child:
            child.join(draw.uniform(0.05, 0.95) * seconds)
            disturbed += child.is_alive() and bool(there.steps)
            child.kill()
        finish(context, there)
        found.append(there.weights)
    assert found == [whole.weights] * KILLS
    assert disturbed > KILLS / 2  # had something to go on from


def test_a_run_killed_again_and_again_gets_to_the_same_end(
    context: multiprocessing.context.ForkServerContext, place: Callable[..., Place]
) -> None:
    whole, pieces = place("whole"), place("pieces")
    seconds = finish(context, whole)
    draw = random.Random(1)
    for _ in range(KILLS // 3):
        with alive(context, pieces) as child:
            child.join(draw.uniform(0.1, 0.5) * seconds)
    finish(context, pieces)
    assert pieces.weights == whole.weights


def test_a_signal_saves_the_step_that_was_taken(
    context: multiprocessing.context.ForkServerContext, place: Callable[..., Place]
) -> None:
    whole = place("whole")
    seconds = finish(context, whole)
    draw = random.Random(2)
    for number in range(STOPS):
        there = place(f"stop-{number}")
        with alive(context, there) as child:
            await_checkpoint(there, child)
            child.join(draw.uniform(0, 0.5) * seconds)
            assert child.pid
            os.kill(child.pid, signal.SIGTERM)
            child.join(20)
            assert child.exitcode == 143
        stopped = int((there.folder / "interrupted").read_text().split(" at step ")[1].split()[0])
        assert there.steps[-1] == stopped
        finish(context, there)
        assert there.weights == whole.weights


@pytest.mark.parametrize("kind", ["none", "full"])
def test_of_two_processes_one_may_be_killed(
    context: multiprocessing.context.ForkServerContext, place: Callable[..., Place], kind: str
) -> None:
    dials = {"launch": "torchrun", "processes": 2, "sharding": kind}
    whole = place("whole", **dials)
    finish(context, whole)
    draw = random.Random(3)
    for number in range(RANKS):
        there = place(f"rank-{number}", **dials)
        with alive(context, there) as child:
            await_checkpoint(there, child)
            time.sleep(draw.uniform(0, 0.5))
            os.kill(draw.choice(workers(there.folder)), signal.SIGKILL)
            child.join(120)
            assert child.exitcode == 0
        assert there.weights == whole.weights


def test_a_signal_reaches_processes_that_train_together(
    context: multiprocessing.context.ForkServerContext, place: Callable[..., Place]
) -> None:
    there = place("stop", launch="torchrun", processes=2)
    with group(context, there) as (child, both):
        assert child.pid
        os.kill(child.pid, signal.SIGTERM)
        child.join(60)
        assert child.exitcode == 143
    stopped = int((there.folder / "interrupted").read_text().split(" at step ")[1].split()[0])
    assert there.steps[-1] == stopped
    assert not any(Path(f"/proc/{each}").exists() for each in both)


def test_a_group_ends_with_the_process_that_wanted_it(
    context: multiprocessing.context.ForkServerContext, place: Callable[..., Place]
) -> None:
    there = place("orphans", launch="torchrun", processes=2)
    with group(context, there) as (child, both):
        child.kill()
        child.join()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{each}").exists() for each in both):
        assert time.monotonic() < deadline, "they train on"
        time.sleep(0.1)


@contextlib.contextmanager
def group(context: multiprocessing.context.ForkServerContext, place: Place) -> Iterator[tuple[BaseProcess, list[int]]]:
    """A life that trains in two processes and has its first checkpoint, with the numbers of both."""
    with alive(context, place) as child:
        await_checkpoint(place, child)
        yield child, workers(place.folder)


def await_checkpoint(place: Place, child: BaseProcess) -> None:
    """Returns when the first checkpoint is there."""
    while not place.steps:
        assert child.exitcode is None, f"it ended before it saved anything, with {child.exitcode}"
        time.sleep(0.002)


def workers(folder: Path) -> list[int]:
    """The processes that torchrun started for a job."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().decode().split("\0")
            if "tasks.model.worker" in words and str(folder) in words and "torch.distributed.run" not in words:
                found.append(int(path.parent.name))
    assert len(found) == 2
    return found
