"""The supervisor, with small real programs: what dies comes back, what ends ends whole, two are never one too many."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra.local import processes, supervisor
from tests.infra.pair import programs

ROOT = Path(__file__).parents[2]


class Pair:
    """A folder over which supervisors are started."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tests.infra.pair", str(self.home)]
        with (self.home / "supervisor.log").open("ab") as log:
            self.started.append(subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log))
        return self.started[-1]

    def up(self) -> subprocess.Popen[bytes]:
        child = self.start()
        until((self.home / "up").exists)
        return child

    def told(self) -> dict[str, Any]:
        return dict(json.loads((self.home / "state.json").read_text()))

    def parts(self) -> dict[str, dict[str, Any]]:
        return {part["name"]: part for part in self.told()["parts"]}

    def pids(self) -> list[int]:
        return [pid for program in programs(self.home) for pid in program.pids]

    def left(self) -> list[int]:
        return processes.marked(f"VERNAL_PART={self.home}")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    yield pair
    for child in pair.started:
        child.kill()
        child.wait()
    for program in programs(tmp_path):
        program.stop()


def until(true: Callable[[], object], patience: float = 60.0) -> None:
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.02)


def test_sigterm_ends_every_program_and_what_it_started(pair: Pair) -> None:
    child = pair.up()
    assert len(pair.left()) == 3, "two programs and a child of the second"
    child.terminate()
    assert child.wait(60) == 0
    assert pair.left() == []
    assert not (pair.home / "up").exists()
    assert {part["state"] for part in pair.parts().values()} == {"down"}


def test_a_program_is_alive_before_its_environment_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = programs(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(processes, "carries", lambda *_: False)
        assert first.start().alive
    first.stop()
    assert not first.alive


def test_a_program_that_dies_is_started_again_and_the_other_left_alone(pair: Pair) -> None:
    pair.up()
    first, second = pair.pids()
    os.kill(second, signal.SIGKILL)
    until(lambda: pair.parts()["second"]["restarts"] == 1 and pair.parts()["second"]["state"] == "running")
    assert pair.pids()[0] == first
    assert pair.pids()[1] != second
    assert len(pair.left()) == 3, "the child that the dead one left is ended before another is made"
    assert "second is gone; starts again" in (pair.home / "supervisor.log").read_text()


def test_a_program_that_does_not_come_back_is_tried_again_at_longer_intervals(pair: Pair) -> None:
    pair.up()
    (pair.home / "broken").touch()
    os.kill(pair.pids()[1], signal.SIGKILL)
    until(lambda: pair.parts()["second"]["restarts"] == 2)
    assert "the reactor is missing" in pair.parts()["second"]["error"]
    assert "starts again in 2 s" in (pair.home / "supervisor.log").read_text()
    (pair.home / "broken").unlink()
    until(lambda: pair.parts()["second"]["state"] == "running")
    assert pair.parts()["second"]["error"] == ""


def test_a_second_supervisor_starts_nothing(pair: Pair) -> None:
    pair.up()
    before = pair.pids()
    assert pair.start().wait(60) == 9
    assert pair.pids() == before
    assert len(pair.left()) == 3


def test_what_a_killed_supervisor_left_is_watched_by_the_next_and_not_started_twice(pair: Pair) -> None:
    killed = pair.up()
    before = pair.pids()
    killed.kill()
    killed.wait()
    (pair.home / "up").unlink()
    assert supervisor.watching(pair.home / "supervisor") == 0
    assert pair.pids() == before, "its programs go on"
    successor = pair.up()
    assert supervisor.watching(pair.home / "supervisor") == successor.pid
    assert pair.pids() == before
    assert len(pair.left()) == 3
    os.kill(before[0], signal.SIGKILL)
    until(lambda: pair.parts()["first"]["restarts"] == 1 and pair.parts()["first"]["state"] == "running")
    successor.terminate()
    assert successor.wait(60) == 0
    assert pair.left() == []


def test_a_program_that_does_not_come_up_ends_all_with_its_last_words(pair: Pair) -> None:
    (pair.home / "broken").touch()
    assert pair.start().wait(60) == 4
    assert pair.left() == []
    failure = pair.told()["failure"]
    assert failure["code"] == "E-STACK-PART"
    assert "second ended with 1 before it was ready: the reactor is missing" in failure["message"]


def test_sigterm_while_it_comes_up_leaves_nothing(pair: Pair) -> None:
    child = pair.start()
    until(lambda: (pair.home / "first" / "pid").exists())
    child.terminate()
    assert child.wait(60) == 0
    assert pair.left() == []


def test_a_stranger_under_an_old_pid_is_left_alone(pair: Pair) -> None:
    (pair.home / "first").mkdir()
    (pair.home / "first" / "pid").write_text(str(os.getpid()))
    first = programs(pair.home)[0]
    assert first.pids == []
    first.stop()


def test_memory_of_a_process_counts_its_children_too() -> None:
    grown = "import subprocess, sys; held = bytearray(40 << 20); subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = subprocess.Popen(
        [sys.executable, "-c", grown, "held = bytearray(30 << 20); input()"], stdin=subprocess.PIPE
    )
    try:
        until(lambda: processes.memory([child.pid]) > 70 << 20)
        assert 0 < processes.age(child.pid) < 60
    finally:
        child.communicate(b"\n")
    assert processes.memory([child.pid]) == 0
