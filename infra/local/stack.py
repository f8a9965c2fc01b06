"""The local stack as commands see it: started, joined, looked at, ended.

Everything stands below one folder, `HOME/stack`: data, logs, generated passwords, the ports of the last start. One
detached process keeps the parts up. While they are, the file `environment` holds, for its owner alone, what a command
needs to use them.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from infra.errors import Coded, Unreachable
from infra.local import ports, processes, supervisor
from infra.local.parts import NAMES, ROOT, Parts
from infra.local.private import write_privately
from infra.local.program import last_words
from infra.settings import environment_with, settings, take_in


class Stack:
    """The stack below `home`, whoever started it."""

    def __init__(self, home: Path, wanted: Mapping[str, int] | None = None) -> None:
        """`wanted`: ports of parts, by name."""
        self.home = home.absolute()
        self.file = self.home / "environment"
        self._wanted = dict(wanted or {})
        self._lock = self.home / "supervisor"
        self._told = self.home / "state.json"
        self._log = self.home / "log" / "supervisor.log"

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to use the stack; empty: it is not up."""
        with suppress(FileNotFoundError):
            return dict(line.split("=", 1) for line in self.file.read_text().splitlines())
        return {}

    @property
    def watched(self) -> bool:
        return bool(supervisor.watching(self._lock))

    @property
    def told(self) -> dict[str, Any]:
        """What the supervisor wrote last."""
        with suppress(FileNotFoundError):
            return dict(json.loads(self._told.read_text()))
        return {"state": "down", "failure": None, "parts": []}

    def join(self) -> None:
        """Let this process use the stack, if it is up.

        Raises Unreachable E-STACK-DOWN where it ended without being told to.
        """
        values = self.environment
        if values and not self.watched:
            raise Unreachable(
                "E-STACK-DOWN",
                f"the stack in {self.home} is not watched any more, perhaps since a restart of the machine; "
                f"`vernal up` starts it again with its data, `vernal down` ends it",
            )
        take_in(values)

    def up(self, progress: Callable[[str], None]) -> None:
        """Start what does not run yet, and wait until all of it answers.

        Raises Unreachable E-STACK-PORT, E-STACK-START, or with the code of the part that does not come up.
        """
        if not self.watched:
            self._launch()
        seen: dict[str, str] = {}
        while True:
            watched, told = self.watched, self.told
            for part in told["parts"]:
                if seen.get(part["name"]) != part["state"]:
                    seen[part["name"]] = part["state"]
                    _say(part, progress)
            if watched and told["state"] == "up":
                return
            if not watched:
                if failure := told["failure"]:
                    raise Unreachable(failure["code"], failure["message"])
                raise Unreachable(
                    "E-STACK-START", f"the stack ended while it came up: {last_words(self._log)}; see {self._log}"
                )
            time.sleep(0.1)

    def down(self, progress: Callable[[str], None]) -> None:
        """End everything, the worker first; data and logs stay."""
        if pid := supervisor.watching(self._lock):
            os.kill(pid, signal.SIGTERM)
        ended: set[str] = set()
        while self.watched:
            for part in self.told["parts"]:
                if part["state"] == "down" and part["name"] not in ended:
                    ended.add(part["name"])
                    progress(f"{part['name']:<9} ended")
            time.sleep(0.1)
        for part in reversed(Parts(self.home, {}).all):  # what a killed supervisor left
            if part.server.pids:
                part.server.stop()
                progress(f"{part.name:<9} ended")
        self.file.unlink(missing_ok=True)

    def status(self) -> list[dict[str, Any]]:
        """Each part: as it was told; `state`, `pids`, `uptime` (seconds) and `memory` (bytes) are of now."""
        watched, found = self.watched, []
        for part in self.told["parts"]:
            pids = [pid for pid in part["pids"] if processes.carries(pid, str(self.home))]
            state = part["state"]
            if not watched:
                state = "unwatched" if pids else "down"
            elif state == "running" and not pids:
                state = "restarting"
            uptime = round(processes.age(pids[0]), 1) if pids else 0.0
            found.append({**part, "state": state, "pids": pids, "uptime": uptime, "memory": processes.memory(pids)})
        return found

    def supervise(self) -> int:
        """What the detached process does: keep the parts up until it is told to end."""
        if not supervisor.claim(self._lock):
            return 0
        parts = Parts(self.home, json.loads((self.home / "ports.json").read_text()))

        def tell_commands() -> None:
            lines = [f"{name}={value}\n" for name, value in parts.environment.items()]
            write_privately(self.file, "".join(lines))

        keeper = supervisor.Supervisor(parts.all, self._told, tell_commands, lambda: self.file.unlink(True))
        failure = keeper.run()
        return failure.exit_code if failure else 0

    def _launch(self) -> None:
        """A child of ours that lives on when we end, and when the terminal closes."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._told.unlink(missing_ok=True)
        self._choose_ports()
        with self._log.open("ab") as log:
            child = subprocess.Popen(
                [sys.executable, "-m", "infra.local.stack", str(self.home)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.home,
                env=environment_with({}, ROOT),
                start_new_session=True,
            )
        while not self.watched and child.poll() is None:
            time.sleep(0.05)

    def _choose_ports(self) -> None:
        """Those that are configured, else those of the last start unless somebody else took them, else free ones."""
        file = self.home / "ports.json"
        last = json.loads(file.read_text()) if file.exists() else {}
        chosen = dict(zip(NAMES, ports.free(len(NAMES)), strict=True))
        for part in Parts(self.home, last).all:
            port = self._wanted.get(part.name, last.get(part.name))
            if port != last.get(part.name):
                part.server.stop()
            ours = bool(part.server.pids)
            if port and (ours or not ports.taken(port)):
                chosen[part.name] = port
            elif part.name in self._wanted:
                raise Unreachable(
                    "E-STACK-PORT",
                    f"port {port} of {part.name} is taken; end what listens there, or change VERNAL_STACK_PORTS",
                )
        file.write_text(json.dumps(chosen))


def local() -> Stack:
    """The stack of this process's settings."""
    return Stack(settings().stack, settings().stack_ports)


def _say(part: Mapping[str, Any], progress: Callable[[str], None]) -> None:
    if part["state"] == "starting":
        progress(f"{part['name']:<9} starts")
    if part["state"] == "running":
        progress(f"{part['name']:<9} is ready after {part['seconds']:.1f} s at {part['address']}")


def main() -> int:
    """`python -m infra.local.stack FOLDER`: supervises the stack there."""
    logging.basicConfig(format="%(asctime)s  %(levelname)s  %(message)s", level=logging.INFO)
    try:
        return Stack(Path(sys.argv[1])).supervise()
    except Coded as error:
        logging.error("%s", error)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
