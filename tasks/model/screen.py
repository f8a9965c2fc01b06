"""What a person sees of long work: a bar on a terminal, a line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 30.0  # seconds between lines where there is no terminal
REDRAWN = 2  # times a second; with rich's own 10 a step of MiniLM cost 2.8 % more when watched, now 0.6 %

log = logging.getLogger("vernal.progress")


class Bar:
    """Progress of one piece of work in steps."""

    def __init__(self, progress: Progress | None, what: str, total: int, done: int) -> None:
        self.progress, self.what, self.total = progress, what, total
        self.task = progress.add_task(what, total=total, completed=done, facts="") if progress else None
        self.told = time.monotonic()

    def show(self, done: int, *, loss: float, speed: float) -> None:
        """Where the work stands; `speed` in tokens a second."""
        facts = f"loss {loss:.3f} · {speed:,.0f} tokens/s"
        if self.progress and self.task is not None:
            self.progress.update(self.task, completed=done, facts=facts)
        elif time.monotonic() - self.told > EVERY:
            self.told = time.monotonic()
            log.info("%s: step %d of %d, %s", self.what, done, self.total, facts)

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.progress:
            self.progress.console.print(line)
        else:
            log.info(line)


@contextmanager
def bar(what: str, total: int, done: int = 0) -> Iterator[Bar]:
    """A bar for `total` steps, of which `done` are done."""
    if not sys.stderr.isatty():
        yield Bar(None, what, total, done)
        return
    with display(Console(stderr=True)) as progress:
        yield Bar(progress, what, total, done)


def display(console: Console) -> Progress:
    """The bar on a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[facts]}"))
    return Progress(*columns, TimeRemainingColumn(), console=console, refresh_per_second=REDRAWN)
