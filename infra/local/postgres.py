"""A real PostgreSQL on loopback, from the distribution's package, without systemd or Docker.

Its cluster, password and log stand below one folder. The server refuses to run as root, so root hands that folder to
the package's user `postgres` and starts it as that user. No Unix socket is opened: socket paths have a length limit
that a deep folder would break.
"""

import os
import pwd
import secrets
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Self

from infra.errors import Coded, Denied

PACKAGES = Path("/usr/lib/postgresql")  # where Debian and Ubuntu put the binaries, off PATH
USER = "vernal"


class LocalPostgres:
    """One server over `home`; `url` leads to its database `vernal`. Starting twice is one start."""

    def __init__(self, home: Path, port: int = 0) -> None:
        """`port` 0: any free one."""
        self.home = home.absolute()
        self.port = port or _free_port()

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
            options = f"-p {self.port} -h 127.0.0.1 -k '' -N 200"
            where = [f"--pgdata={self._data}", f"--log={self.home / 'log'}"]
            self._run("pg_ctl", "start", *where, "--wait", "--timeout=60", f"--options={options}")
        self.database("vernal")
        return self

    def stop(self) -> None:
        """End the server, its sessions too; what was committed stays."""
        if self.running:
            self._run("pg_ctl", "stop", f"--pgdata={self._data}", "--wait", "--mode=fast")

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
    def running(self) -> bool:
        status = ["pg_ctl", "status", f"--pgdata={self._data}"]
        return self._pid.exists() and self._call(*status).returncode == 0

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

    def _initialise(self) -> None:
        """A cluster that is there is a whole one: made under another name, then renamed."""
        self._password.write_text(secrets.token_urlsafe(18))
        self._password.chmod(0o600)
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
                f"{program} ended with {done.returncode} in {self.home}: {' '.join(last)}; see {self.home / 'log'}",
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


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
