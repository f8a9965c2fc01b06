"""Curves of a run on their way to the registry: in batches, from a thread, never in the way of a step.

The registry is a projection: training goes on when it does not answer, and the history stands in the checkpoint anyway.
"""

import logging
import queue
import threading
import time

from infra.registry import Point, Registry
from infra.settings import settings
from tasks.errors import Coded

PAUSE = 2.0  # seconds between batches
HURRY = 3.0  # seconds that a run which must end waits for the last batch

log = logging.getLogger("vernal.curves")


def registry() -> Registry:
    """The registry that the settings name."""
    return Registry(settings().mlflow_uri, settings().home.absolute() / "mlflow")


class Curves:
    """Metrics of one run, sent a batch at a time; a context manager."""

    def __init__(self, experiment: str, run_key: str) -> None:
        self.where = (experiment, run_key)
        self.waiting: queue.SimpleQueue[Point] = queue.SimpleQueue()
        self.over = threading.Event()
        self.failed = False
        self.sender = threading.Thread(target=self._send, name="curves", daemon=True)

    def add(self, step: int, **values: float) -> None:
        """Metrics of a step."""
        now = int(time.time() * 1000)
        for name, value in values.items():
            self.waiting.put(Point(name, value, step, now))

    def __enter__(self) -> "Curves":
        self.sender.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.failed = kind is not None
        self.over.set()
        self.sender.join(timeout=HURRY if self.failed else 30)

    def _send(self) -> None:
        experiment, run_key = self.where
        try:
            there = registry()
            run = there.start(experiment, run_key, f"{experiment} {run_key[7:15]}", {})
            while not self.over.wait(PAUSE):
                there.log(run, self._drained())
            there.log(run, self._drained())
            there.end(run, "KILLED" if self.failed else "FINISHED")
        except Coded as error:
            if not self.failed:
                log.warning("curves are not sent: %s", error)

    def _drained(self) -> list[Point]:
        points = []
        while not self.waiting.empty():
            points.append(self.waiting.get())
        return points
