"""Training in a group of processes on this host: torchrun starts them, watches them, and starts them again.

When one dies all are started again, and go on from the newest checkpoint. The group lives no longer than this process:
it reads the pipe that we hold, and ends when that breaks. What its first process says is said here again.
"""

import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict

from tasks.errors import BadInput, Coded, Corrupt, Denied, Interrupted, Missing, Unreachable
from tasks.model import hardware
from tasks.model.training import Job, Trained

RESTARTS = 3
JOB, OUTCOME = "job.json", "outcome.json"

log = logging.getLogger("vernal.finetune")


class Outcome(BaseModel):
    """How a group ended: with what it trained, or with an error that another try would meet again."""

    model_config = ConfigDict(frozen=True)

    trained: Trained | None = None
    error: str = ""  # name of its class
    code: str = ""
    message: str = ""
    status: int = 0  # that an interruption ends with

    @classmethod
    def of(cls, error: Coded) -> "Outcome":
        """The outcome that an error is."""
        return cls(error=type(error).__name__, code=error.code, message=error.message, status=error.exit_code)

    def told(self) -> Trained:
        """What was trained; or raises the error."""
        if self.trained:
            return self.trained
        if self.error == Interrupted.__name__:
            raise Interrupted(self.code, self.message, self.status)
        kinds = {kind.__name__: kind for kind in (BadInput, Unreachable, Denied, Missing, Corrupt)}
        raise kinds[self.error](self.code, self.message)


def together(folder: Path, job: Job) -> Trained:
    """What a group of processes made of the job.

    Raises:
        Coded: what the job itself met, as it would have met it here.
        BadInput: E-RANKS, processes died again and again.
    """
    count = job.train.processes or devices()
    (folder / JOB).write_text(job.model_dump_json())
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={count}"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"]
    command += [
        f"--max-restarts={RESTARTS}",
        f"--log-dir={folder / 'torchrun'}",
        "-m",
        "tasks.model.worker",
        str(folder),
    ]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    last: list[str] = []
    with subprocess.Popen(command, start_new_session=True, text=True, **pipes) as group, _forwarded(group) as seen:
        log.info("%d processes, started by torchrun", count)
        for line in group.stdout or ():
            last = [*last[-4:], line.rstrip()]
            log.info(line.rstrip())
    if seen and not (folder / OUTCOME).exists():
        raise Interrupted("E-INTERRUPTED", "before the first step: nothing was lost; start again", 128 + seen[0])
    return _told(folder, group.returncode, last)


def devices() -> int:
    """GPUs of this host, or 1 where there is none."""
    return torch.cuda.device_count() if hardware.chosen() == "cuda" else 1


def _told(folder: Path, status: int, last: list[str]) -> Trained:
    if not (folder / OUTCOME).exists():
        raise BadInput(
            "E-RANKS",
            f"the processes of torchrun died {RESTARTS + 1} times (exit status {status}); the last of them said: "
            f"{' / '.join(last)!r}; the same command goes on from the newest checkpoint",
        )
    return Outcome.model_validate_json((folder / OUTCOME).read_bytes()).told()


@contextmanager
def _forwarded(group: subprocess.Popen[str]) -> Iterator[list[int]]:
    """A signal to this process goes to the group, which saves its step; a second one ends it at once."""
    seen: list[int] = []

    def forward(number: int, _frame: FrameType | None) -> None:
        if seen:
            os.killpg(group.pid, signal.SIGKILL)
        else:
            os.kill(group.pid, number)
        seen.append(number)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
