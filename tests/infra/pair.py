"""Two small programs under a supervisor, the second with a child of its own: `python -m tests.infra.pair FOLDER`.

A file `broken` in the folder keeps the second from coming up.
"""

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from infra.local import supervisor
from infra.local.program import Program
from infra.local.supervisor import Part, Supervisor
from infra.settings import environment_with

ROOT = Path(__file__).parents[2]
HERE = "pathlib.Path('new').write_text(str(time.time())); pathlib.Path('new').rename('here'); time.sleep(600)"
STAYS = f"import pathlib, time; {HERE}"
PARENT = (
    "import subprocess, sys, pathlib, time\n"
    "if pathlib.Path('../broken').exists(): sys.exit('the reactor is missing')\n"
    "subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'], start_new_session=True)\n"
    f"{HERE}"
)


def programs(home: Path) -> list[Program]:
    """First and second."""
    return [_program(home, "first", STAYS), _program(home, "second", PARENT)]


def _program(home: Path, name: str, script: str) -> Program:
    here = home / name / "here"
    # by the clock that `since` is of: a file's times are those of the kernel's last tick, which a busy host may delay
    ready: Callable[[float], bool] = lambda since: here.exists() and float(here.read_text()) >= since  # noqa: E731
    command = [sys.executable, "-S", "-c", script]
    return Program(name, home / name, home / f"{name}.log", command, lambda: environment_with({}, ROOT), ready, 5.0)


def main() -> int:
    logging.basicConfig(level=logging.INFO)
    home = Path(sys.argv[1])
    if not supervisor.claim(home / "supervisor"):
        return 9
    first, second = programs(home)
    parts = [Part("first", first), Part("second", second, after=("first",))]
    up = home / "up"
    failure = Supervisor(parts, home / "state.json", up.touch, lambda: up.unlink(missing_ok=True)).run()
    return failure.exit_code if failure else 0


if __name__ == "__main__":
    sys.exit(main())
