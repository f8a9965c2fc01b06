"""A real PostgreSQL on loopback, from the distribution's package, without systemd or Docker.

Its cluster, password and log stand below one folder. The server refuses to run as root, so root hands that folder to
the package's user `postgres` and starts it as that user. No Unix socket is opened: socket paths have a length limit
that a deep folder would break.
"""

import os
import pwd
import secrets
import shutil
import subprocess
import time
from pathlib import Path
from typing import Self

from infra.errors import Coded, Denied
from infra.local import ports, processes
from infra.local.private import write_privately

PACKAGES = Path("/usr/lib/postgresql")  # where Debian and Ubuntu put the binaries, off PATH
USER = "vernal"
START = 60  # seconds until we give up


class LocalPostgres:
    """One server over `home`; `url` leads to its database `vernal`. Starting twice is one start."""

    def __init__(self, home: Path, port: int = 0, log: Path | None = None) -> None:
        """`port` 0: any free one. `log`: the server's, below `home` by default."""
        self.home = home.absolute()
        self.port = port or ports.free()[0]
        self.log = log or self.home / "log"
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self._url("vernal")

    def start(self) -> Self:
        """Start the server and wait until it answers.

        Raises E-POSTGRES-MISSING, E-POSTGRES-HOME, E-POSTGRES-START.
        """
        _binaries()
        self._own()
        if not self._data.exists():
            self._initialise()
        if self.running:
            self.port = int(self._pid.read_text().splitlines()[3])
        else:
            self._launch()
        self.database("vernal")
        return self

    def stop(self) -> None:
        """End the server, its sessions too; what was committed stays."""
        if self.running:
            self._run("pg_ctl", "stop", f"--pgdata={self._data}", "--wait", "--mode=fast")
        if self._child:
            self._child.poll()

    def database(self, name: str) -> str:
        """The URL of database `name`, made if it is not there."""
        where = ["--host=127.0.0.1", f"--port={self.port}", f"--username={USER}"]
        try:
            self._run("createdb", *where, "--maintenance-db=postgres", name)
        except Coded as error:
            if "already exists" not in error.message:
                raise
        return self._url(name)

    @property
    def pids(self) -> list[int]:
        """The server's own process, while it lives."""
        if self._child:
            self._child.poll()
        pid = processes.written(self._pid)
        return [pid] if pid and processes.carries(pid, str(self._data)) else []

    @property
    def alive(self) -> bool:
        return bool(self.pids)

    @property
    def answers(self) -> bool:
        return self.running and ports.answers(self.port)

    @property
    def running(self) -> bool:
        """Whether it is there for sessions: its last line of the pid file says so."""
        return self.alive and self._pid.read_text().split()[-1:] == ["ready"]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _data(self) -> Path:
        return self.home / "data"

    @property
    def _pid(self) -> Path:
        return self._data / "postmaster.pid"

    @property
    def _password(self) -> Path:
        return self.home / "password"

    def _url(self, database: str) -> str:
        return f"postgresql://{USER}:{self._password.read_text()}@127.0.0.1:{self.port}/{database}"

    def _own(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self._give(self.home)
        writable = subprocess.run(["test", "-w", self.home], user=_owner(), cwd="/", check=False)
        if writable.returncode != 0:
            raise Denied(
                "E-POSTGRES-HOME",
                f"{self.home} cannot be entered by user {_owner()}, as whom the server runs; wanted: a folder below "
                f"one that every user may enter; choose another, or do not start as root",
            )

    def _launch(self) -> None:
        """As a child, not by pg_ctl: whoever watches it reaps it too, and a dead one unreaped would bar the next."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        options = ["-p", str(self.port), "-h", "127.0.0.1", "-k", "", "-N", "200"]
        with self.log.open("ab") as log:
            self._child = subprocess.Popen(
                [str(_binaries() / "postgres"), "-D", str(self._data), *options],
                user=_owner(),
                env={"LC_ALL": "C", "PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
            )
        deadline = time.monotonic() + START
        while not self.running:
            code = self._child.poll()
            if code is not None or time.monotonic() > deadline:
                self.stop()
                found = f"ended with {code}" if code is not None else f"took longer than {START} s"
                last = self.log.read_text(errors="replace").strip().splitlines()[-1:]
                raise Coded("E-POSTGRES-START", f"postgres {found} in {self.home}: {' '.join(last)}; see {self.log}")
            time.sleep(0.05)

    def _initialise(self) -> None:
        """A cluster that is there is a whole one: made under another name, then renamed."""
        write_privately(self._password, secrets.token_urlsafe(18))
        self._give(self._password)
        half = self.home / "initialising"
        shutil.rmtree(half, ignore_errors=True)
        access = [f"--username={USER}", f"--pwfile={self._password}", "--auth=scram-sha-256"]
        self._run("initdb", f"--pgdata={half}", "--encoding=UTF8", "--no-locale", *access)
        half.rename(self._data)

    def _give(self, path: Path) -> None:
        if owner := _owner():
            shutil.chown(path, owner)

    def _run(self, program: str, *arguments: str) -> None:
        done = self._call(program, *arguments)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Coded(
                "E-POSTGRES-START",
                f"{program} ended with {done.returncode} in {self.home}: {' '.join(last)}; see {self.log}",
            )

    def _call(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {"LC_ALL": "C", "PATH": os.defpath}
        if self._password.exists():
            environment["PGPASSWORD"] = self._password.read_text()
        command = [str(_binaries() / program), *arguments]
        return subprocess.run(
            command, user=_owner(), env=environment, cwd="/", capture_output=True, text=True, check=False
        )


def _binaries() -> Path:
    """The folder of initdb and pg_ctl: that of the newest package, or of PATH."""
    packaged = sorted(PACKAGES.glob("*/bin/pg_ctl"), key=lambda path: float(path.parts[-3]))
    found = packaged[-1] if packaged else shutil.which("pg_ctl")
    if found is None:
        raise Coded(
            "E-POSTGRES-MISSING",
            f"no pg_ctl below {PACKAGES} or on PATH; wanted: a PostgreSQL server; apt-get install postgresql",
        )
    return Path(found).resolve().parent


def _owner() -> str | None:
    """The user that runs the server in place of root; None: whoever we are."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise Coded(
            "E-POSTGRES-MISSING",
            "no user postgres, and the server refuses to run as root; wanted: the user that the package makes; "
            "apt-get install postgresql",
        ) from None
