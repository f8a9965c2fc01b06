"""A program that stays up: one child with a pid file, a log and a question that it answers when it is ready.

Its environment carries a mark, which everything that it starts inherits: so that another process finds it again, takes
no stranger for it, and ends all that it left. It outlives whoever started it.
"""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Self

from infra.errors import Unreachable
from infra.local import processes

START = 600.0  # seconds until we give up: a first start makes 65 tables, and took 106 s on a very busy machine


class Program:
    """One program over `home`. Starting twice is one start, whoever started first."""

    def __init__(
        self,
        name: str,
        home: Path,
        log: Path,
        command: Sequence[str],
        environment: Callable[[], Mapping[str, str]],
        ready: Callable[[float], bool],
        patience: float = 15.0,
        drain: Callable[[], None] | None = None,
    ) -> None:
        """`environment` is all of it, asked for at each launch; `ready` is asked with the Unix time of the launch.

        `drain`: what it starts is work of its own, that outlives its death; before `stop` ends that work, and then the
        program, this keeps it from starting more.
        """
        self.name = name
        self.home = home.absolute()
        self.log = log
        self._command = command
        self._environment = environment
        self._ready = ready
        self._patience = patience
        self._drain = drain
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> list[int]:
        """The program's own process, while it lives; our own child needs no mark, and in its first moment shows none.

        Linux has an empty /proc/PID/environ between the end of the old memory and the beginning of the new in exec.
        """
        if self._child and self._child.poll() is None:
            return [self._child.pid]
        pid = processes.written(self._pid)
        return [pid] if pid and processes.carries(pid, self._mark) else []

    @property
    def alive(self) -> bool:
        return bool(self.pids)

    @property
    def answers(self) -> bool:
        return self._ready(0.0)

    def start(self) -> Self:
        """Start it if it does not run, and wait until it is ready.

        Raises Unreachable E-STACK-PART.
        """
        since = 0.0
        if not self.alive:
            if not self._drain:
                self.stop()
            since = time.time()
            self._launch()
        deadline = time.monotonic() + START
        while not self._ready(since):
            if not self.alive or time.monotonic() > deadline:
                found = f"took longer than {START:.0f} s" if self.alive else f"ended with {self._code}"
                self.stop()
                raise Unreachable(
                    "E-STACK-PART", f"{self.name} {found} before it was ready: {last_words(self.log)}; see {self.log}"
                )
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """End it and all that it started."""
        if self._drain and self.alive:
            self._drain()
            processes.end(self._work, self._work, self._patience)
        processes.end(lambda: self.pids, self._all, self._patience)

    @property
    def _pid(self) -> Path:
        return self.home / "pid"

    @property
    def _mark(self) -> str:
        return f"VERNAL_PART={self.home}\0"

    @property
    def _code(self) -> int | None:
        return self._child.returncode if self._child else None

    def _launch(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        values = {**self._environment(), "VERNAL_PART": str(self.home)}
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=values,
                start_new_session=True,
            )
        self._pid.write_text(str(self._child.pid))

    def _work(self) -> list[int]:
        return [pid for main in self.pids for pid in processes.children(main)]

    def _all(self) -> list[int]:
        if self._child:
            self._child.poll()
        return processes.marked(self._mark)


def last_words(log: Path) -> str:
    """The end of a log on one line."""
    try:
        lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "no log"
    return " / ".join(lines[-3:])[-500:] or "no word"
