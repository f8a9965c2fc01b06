"""How far a training is, shown by Prefect while it goes on.

The training may go on in another process, so it leaves a note in its folder now and then, and who started it follows
that note from a thread: a step never waits for Prefect.
"""

import json
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import Any

NOTE = "progress.json"
EVERY = 1.0  # seconds between two notes
PAUSE = 5.0  # seconds between two looks
HURRY = 3.0  # seconds that a training which has ended waits for the last look

log = logging.getLogger("vernal.following")


class Note:
    """The note of a training in `folder`; None: another process of its group writes it."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.written = 0.0

    def leave(self, done: int, total: int, **facts: float) -> None:
        """Notes the step that was taken last."""
        if self.folder and time.monotonic() - self.written > EVERY:
            self.written = time.monotonic()
            arriving = self.folder / f"{NOTE}~"
            arriving.write_text(json.dumps({"done": done, "total": total, **facts}))
            arriving.replace(self.folder / NOTE)


@contextmanager
def followed(folder: Path, name: str) -> Iterator[None]:
    """While the block runs, the page of its Prefect task shows how far the training in `folder` is."""
    from prefect.context import TaskRunContext

    if TaskRunContext.get() is None:
        yield
        return
    over = threading.Event()
    follower = threading.Thread(target=copy_context().run, args=(_follow, folder / NOTE, name, over), daemon=True)
    follower.start()
    try:
        yield
    finally:
        over.set()
        follower.join(HURRY)


def _follow(note: Path, name: str, over: threading.Event) -> None:
    from prefect.artifacts import create_progress_artifact, update_progress_artifact

    shown: Any = None
    try:
        while True:
            last = over.wait(PAUSE)
            if note.exists():
                found = json.loads(note.read_text())
                share, about = 100 * found["done"] / found["total"], _about(found)
                if shown is None:
                    key = f"{name}-progress".replace(".", "-").replace("_", "-")
                    shown = create_progress_artifact(share, key=key, description=about)
                else:
                    update_progress_artifact(shown, share, description=about)
            if last:
                return
    except Exception as error:  # whatever it is: the training is not concerned
        log.info("progress is not shown any more: %s: %s", type(error).__name__, error)


def _about(found: dict[str, Any]) -> str:
    return f"step {found['done']:,} of {found['total']:,}, loss {found['loss']:.4f}, {found['speed']:,.0f} tokens/s"
