"""What Linux knows of processes: whose they are, their children, their memory.

A pid says little, for it is given again to somebody else. What is ours carries the folder of its stack in its command
line or in its environment, and its children inherit that.
"""

import os
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")
CLOCK = 0.05  # seconds between two looks


def carries(pid: int, mark: str) -> bool:
    """Whether a process has `mark` in its command line or environment; a dead one has neither, reaped or not."""
    with suppress(OSError):
        folder = PROC / str(pid)
        said = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        return bool(said) and mark.encode() in said
    return False


def marked(mark: str) -> list[int]:
    """Every process that carries `mark`, this one excepted."""
    pids = [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]
    return [pid for pid in pids if pid != os.getpid() and carries(pid, mark)]


def written(file: Path) -> int:
    """The pid that a file holds; 0: none."""
    try:
        return int(file.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def end(mains: Callable[[], Sequence[int]], every: Callable[[], Sequence[int]], patience: float) -> None:
    """Ask `mains` to end, then `every` one that is left, then end those that do not listen."""
    for number, pids in ((signal.SIGTERM, mains), (signal.SIGTERM, every), (signal.SIGKILL, every)):
        for pid in pids():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience
        while pids() and time.monotonic() < deadline:
            time.sleep(CLOCK)


def children(pid: int) -> list[int]:
    """Those that a process started itself and that live."""
    found = [int(path.name) for path in PROC.iterdir() if path.name.isdigit() and _parent(path) == pid]
    return [child for child in found if carries(child, "")]


def memory(pids: Iterable[int]) -> int:
    """Bytes that processes and their descendants hold; what several share is counted once in all."""
    family = _descendants(pids)
    return sum(_share(pid) for pid in family)


def age(pid: int) -> float:
    """Seconds since a process began; 0: it is gone."""
    with suppress(OSError, IndexError):
        ticks = int(_fields(PROC / str(pid))[19])
        return float((PROC / "uptime").read_text().split()[0]) - ticks / os.sysconf("SC_CLK_TCK")
    return 0.0


def _descendants(pids: Iterable[int]) -> set[int]:
    """The processes themselves, their children, and so on."""
    parents = {int(path.name): _parent(path) for path in PROC.iterdir() if path.name.isdigit()}
    found, wave = set[int](), set(pids)
    while wave:
        found |= wave
        wave = {pid for pid, parent in parents.items() if parent in wave} - found
    return found


def _parent(folder: Path) -> int:
    with suppress(OSError, IndexError):
        return int(_fields(folder)[1])
    return 0


def _fields(folder: Path) -> list[str]:
    """What `stat` says, from the process's state on; the name before it may hold anything."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


def _share(pid: int) -> int:
    with suppress(OSError):
        for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0
