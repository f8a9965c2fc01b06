"""Starts parts in their order, starts again what dies, ends all in reverse: one small process that does only that.

Each part has a thread of its own, so that two that need nothing of each other come up together, and a slow start keeps
nobody from being watched. What they do is told in a file, for others to read.

Killed, it leaves every part up and unwatched; its successor finds them by their pid files and watches them again.
"""

import fcntl
import json
import logging
import os
import signal
import struct
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from infra.errors import Coded

LOOK = 0.5  # seconds between two looks at a part
LONGEST = 30.0  # seconds between two tries to start what does not come up
FLOCK = "hhqqi"  # Linux's struct flock: kind, whence, start, length, pid
PROVEN = 60.0  # seconds after which a part counts as healthy again

log = logging.getLogger("vernal.stack")


class Server(Protocol):
    """What can be started and ended, twice as well as once, whoever did it first."""

    @property
    def alive(self) -> bool: ...
    @property
    def pids(self) -> list[int]: ...
    def start(self) -> Any: ...
    def stop(self) -> None: ...


@dataclass
class Part:
    """A server and its place among the others: it starts when those that it comes `after` are up."""

    name: str
    server: Server
    address: str = ""
    log: str = ""
    after: tuple[str, ...] = ()
    furnish: Callable[[], None] = lambda: None  # makes what must be in it, once it answers


@dataclass
class Told:
    """What others read of a part. `since`: Unix time at which it came up; `seconds`: how long its last start took."""

    name: str
    address: str
    log: str
    state: str = "waiting"  # starting, running, restarting, down
    pids: list[int] = field(default_factory=list)
    since: float = 0.0
    seconds: float = 0.0
    restarts: int = 0
    error: str = ""


class Supervisor:
    """Keeps `parts` up until it is told to end; what it knows stands in the file `told`."""

    def __init__(self, parts: Sequence[Part], told: Path, up: Callable[[], None], down: Callable[[], None]) -> None:
        """`up` is called once all parts are, `down` before the first is ended."""
        self._parts = parts
        self._file = told
        self._up, self._down = up, down
        self._told = {part.name: Told(part.name, part.address, part.log) for part in parts}
        self._came = {part.name: threading.Event() for part in parts}
        self._ending = threading.Event()
        self._lock = threading.Lock()
        self._failure: Coded | None = None
        self._state = "starting"

    def run(self) -> Coded | None:
        """Until SIGTERM, or until a part does not come up at the first try; returns why it did not."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ending.set())
        threads = [threading.Thread(target=self._keep, args=[part], name=part.name) for part in self._parts]
        self._tell()
        for thread in threads:
            thread.start()
        while not self._ending.wait(0.1) and not all(came.is_set() for came in self._came.values()):
            pass
        if not self._ending.is_set():
            self._up()
            self._say("up")
            self._ending.wait()
        self._down()
        self._say("failed" if self._failure else "ending")
        for part in reversed(self._parts):
            self._end(part)
        for thread in threads:
            thread.join()
        for part in reversed(self._parts):  # one whose start overlapped with its end
            part.server.stop()
        self._say("failed" if self._failure else "down")
        return self._failure

    def _keep(self, part: Part) -> None:
        """The life of one part."""
        if not self._after(part):
            return
        try:
            self._start(part, "starting")
            self._came[part.name].set()
        except Exception as error:
            self._fail(part, error)
            return
        pause = 1.0
        while not self._ending.wait(LOOK):
            told = self._told[part.name]
            if told.state == "running" and part.server.alive:
                pause = 1.0 if time.time() - told.since > PROVEN else pause
                continue
            log.warning("%s is gone; starts again in %.0f s", part.name, pause)
            self._say_of(part, state="restarting", pids=[])
            if self._ending.wait(pause):
                return
            pause = min(LONGEST, 2 * pause)
            try:
                self._start(part, "restarting")
            except Exception as error:
                log.warning("%s does not come up: %s", part.name, error)
                self._say_of(part, error=str(error))

    def _after(self, part: Part) -> bool:
        """Wait for what the part needs; false: the end came first."""
        for name in part.after:
            while not self._came[name].wait(0.1):
                if self._ending.is_set():
                    return False
        return not self._ending.is_set()

    def _start(self, part: Part, state: str) -> None:
        told, begun = self._told[part.name], time.monotonic()
        again = state == "restarting"
        self._say_of(part, state=state, restarts=told.restarts + again)
        part.server.start()
        if self._ending.is_set():
            return
        part.furnish()
        seconds = round(time.monotonic() - begun, 1)
        log.info("%s is ready after %.1f s", part.name, seconds)
        self._say_of(part, state="running", pids=part.server.pids, since=time.time(), seconds=seconds, error="")

    def _fail(self, part: Part, error: Exception) -> None:
        if self._ending.is_set():
            return
        coded = error if isinstance(error, Coded) else Coded("E-STACK-PART", f"{part.name}: {error!r}")
        log.error("%s does not come up: %s", part.name, coded, exc_info=None if error is coded else error)
        self._failure = self._failure or coded
        self._say_of(part, state="down", error=str(coded))
        self._ending.set()

    def _end(self, part: Part) -> None:
        part.server.stop()
        log.info("%s is down", part.name)
        self._say_of(part, state="down", pids=[])

    def _say_of(self, part: Part, **changes: Any) -> None:
        with self._lock:
            for name, value in changes.items():
                setattr(self._told[part.name], name, value)
        self._tell()

    def _say(self, state: str) -> None:
        self._state = state
        self._tell()

    def _tell(self) -> None:
        """Write what is known, in one piece. A disk that is full keeps nobody from being watched."""
        with self._lock:
            failure = self._failure and {"code": self._failure.code, "message": self._failure.message}
            parts = [asdict(told) for told in self._told.values()]
            text = json.dumps({"pid": os.getpid(), "state": self._state, "failure": failure, "parts": parts}, indent=1)
            half = self._file.with_suffix(".half")
            try:
                half.write_text(text)
                half.replace(self._file)
            except OSError as error:
                log.warning("%s is not up to date: %s", self._file, error)


def claim(lock: Path) -> bool:
    """Become the one supervisor of this file, until the process is gone, however that comes; false: there is one."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)  # never closed: who sees it free sees us gone
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def watching(lock: Path) -> int:
    """The pid of the supervisor that holds this file, as the kernel knows it; 0: there is none."""
    question = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    try:
        with lock.open() as file:
            kind, *_, pid = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, question))
    except FileNotFoundError:
        return 0
    return 0 if kind == fcntl.F_UNLCK else int(pid)
