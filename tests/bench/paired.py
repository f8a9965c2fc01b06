"""Contenders that take turns in one process, so that a neighbour on the machine slows all of them alike.

A contender is an iterator: its first item says that it is set up and warm, each later one is a step that it took. Every
contender takes step j before any takes step j + 1, and only one computes at a time; so the CPU time of the process
while it has its turn is its own. What it costs: the caches are cold at every turn, as they are between the steps of any
model that is larger than them. The order within a round is drawn anew, so that nobody always comes after the same one.
"""

import ctypes
import random
import time
from collections.abc import Callable, Iterator, Mapping
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple


class Taken(NamedTuple):
    """What a step consumed; padding does not count."""

    rows: int
    tokens: int


class Turn(NamedTuple):
    """One turn of a contender."""

    rows: int
    tokens: int
    cpu: float  # seconds of the process
    wall: float  # seconds


READY = Taken(0, 0)

M_ARENA_MAX = -8  # of glibc's malloc.h

HandBack = Callable[[Taken], None]


class Enough(BaseException):
    """No further step is wanted: ends work through whatever code it stands in."""


def share_heap() -> None:
    """Lets all threads of this process allocate from one heap; to be called before there are any.

    A heap for each thread grows within the steps that count: the longest batch of our engine took 2.2 s instead of 1.0,
    of which 1.3 in page faults, while group_by_length begins with its longest batch and so had grown in the warm-up.
    """
    ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def stepwise(work: Callable[[HandBack], None]) -> Iterator[Taken]:
    """Code that calls back after each step, as an iterator of its steps.

    `work` runs in a thread, but only while somebody waits for its next step. What it raises is raised there.
    """
    steps: SimpleQueue[Taken | BaseException | None] = SimpleQueue()
    baton: SimpleQueue[bool] = SimpleQueue()

    def hand_back(taken: Taken) -> None:
        steps.put(taken)
        if not baton.get():
            raise Enough

    def run() -> None:
        try:
            if baton.get():
                work(hand_back)
            steps.put(None)
        except Enough:
            steps.put(None)
        except BaseException as error:
            steps.put(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    try:
        while True:
            baton.put(True)
            step = steps.get()
            if isinstance(step, BaseException):
                raise step
            if step is None:
                return
            yield step
    finally:
        baton.put(False)
        thread.join()


def run(
    contenders: Mapping[str, Iterator[Taken]],
    between: Callable[[], None] = lambda: None,
    steps_a_turn: int = 1,
    settle: Callable[[], None] = lambda: None,
) -> dict[str, list[Turn]]:
    """Every contender's turns, to the end of all.

    Args:
        between: called after each round.
        steps_a_turn: more than one where a device works on while its steps are enqueued.
        settle: waits for the device; counted to the turn.
    """
    for contender in contenders.values():
        next(contender)
    turns: dict[str, list[Turn]] = {name: [] for name in contenders}
    order, left = random.Random(0), set(contenders)
    while left:
        for name in order.sample(sorted(left), len(left)):
            turn = _turn(contenders[name], steps_a_turn, settle)
            turns[name].append(turn) if turn.rows else left.remove(name)
        between()
    if len({sum(each.rows for each in taken) for taken in turns.values()}) != 1:
        raise AssertionError(f"unequal work: { {name: sum(t.rows for t in taken) for name, taken in turns.items()} }")
    return turns


def _turn(contender: Iterator[Taken], steps: int, settle: Callable[[], None]) -> Turn:
    wall, cpu = time.perf_counter(), time.process_time()
    rows = tokens = 0
    for _, taken in zip(range(steps), contender, strict=False):
        rows, tokens = rows + taken.rows, tokens + taken.tokens
    settle()
    return Turn(rows, tokens, time.process_time() - cpu, time.perf_counter() - wall)


def total(turns: list[Turn]) -> Turn:
    """The sum of all turns."""
    return Turn(*(sum(column) for column in zip(*turns, strict=True)))
