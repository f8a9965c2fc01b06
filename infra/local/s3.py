"""A real S3 server on loopback, without Docker: OpenStack Swift with its S3 door, from the package index (Linux).

Four daemons (proxy, object, container, account) keep their data below one folder. Swift verifies signatures, MD5 and
SHA-256 of what it receives and keeps its data over a kill; it is installed into an environment of its own, because its
dependencies are none of ours. The prices: `PutObject If-None-Match` is not atomic (16 racers may all win), tags are
not kept, and a start takes 1.4 s.
"""

import configparser
import errno
import fcntl
import io
import os
import pwd
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from infra.errors import Coded, Unreachable
from infra.local import ports, processes
from infra.local.private import write_privately

PACKAGES = ("swift==2.38.3", "pyeclib==1.8.0")
ACCOUNT, USER = "vernal", "local"
DAEMONS = {"account": "account", "container": "container", "object": "obj", "proxy": "proxy"}  # name: its module
DOOR = "catch_errors gatekeeper healthcheck s3api tempauth bulk slo dlo versioned_writes symlink"
START, STOP = 90, 10  # seconds until we give up

RINGS = """
import sys
from swift.common.ring import RingBuilder
for kind, port in zip(("account", "container", "object"), sys.argv[2:]):
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
    builder.add_dev(dict(region=1, zone=1, ip="127.0.0.1", port=int(port), device="disk", weight=1))
    builder.rebalance()
    builder.get_ring().save(f"{sys.argv[1]}/{kind}.ring.gz")
"""


class LocalS3:
    """One server over `home`; any process may stop what another one started. Starting twice is one start."""

    access_key = f"{ACCOUNT}:{USER}"

    def __init__(self, home: Path, port: int = 0, environment: Path | None = None, log: Path | None = None) -> None:
        """`port` 0: any free one. `environment`: where Swift is or will be installed, below `home` by default.

        `log`: the folder of the daemons' logs, below `home` by default.
        """
        self.home = home.absolute()
        self.port = port
        self.environment = (environment or self.home / "environment").absolute()
        self.log = log or self.home / "log"
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def secret_key(self) -> str:
        """Made once per home."""
        path = self.home / "secret"
        if not path.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            write_privately(path, secrets.token_hex(16))
        return path.read_text()

    @property
    def pids(self) -> list[int]:
        """The daemons that live."""
        for child in self._children.values():
            child.poll()
        return [pid for daemon in DAEMONS if (pid := self._pid(daemon))]

    @property
    def alive(self) -> bool:
        return len(self.pids) == len(DAEMONS)

    @property
    def running(self) -> bool:
        return self.alive and self.answers

    def install(self) -> None:
        """Install Swift, with pip as this machine has it configured; one that is there whole is kept.

        Raises Unreachable E-S3-INSTALL.
        """
        with _alone(self.environment.with_name(self.environment.name + ".lock")):
            whole = self.environment / "installed"
            if whole.exists() and whole.read_text() == " ".join(PACKAGES):
                return
            shutil.rmtree(self.environment, ignore_errors=True)
            self._install(sys.executable, "-m", "venv", str(self.environment))
            self._install(self._python, "-m", "pip", "install", "--quiet", *PACKAGES)
            whole.write_text(" ".join(PACKAGES))

    def start(self) -> Self:
        """Install what is missing, start the daemons and wait until all of them answer.

        Raises Unreachable E-S3-INSTALL, E-S3-START; Coded E-S3-HOME where the file system cannot keep the data.
        """
        self.install()
        if self._resumed():
            return self
        self.stop()
        self._configure()
        self._children = {daemon: self._launch(daemon, f"swift.{module}.server") for daemon, module in DAEMONS.items()}
        deadline = time.monotonic() + START
        while not self.running:
            fallen = [daemon for daemon, child in self._children.items() if child.poll() is not None]
            if fallen or time.monotonic() > deadline:
                self.stop()
                raise Unreachable(
                    "E-S3-START", f"S3 server did not come up on port {self.port}: {self._last_words(fallen)}"
                )
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        """End the daemons; what was stored stays."""
        processes.end(lambda: self.pids, lambda: self.pids, STOP)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def _python(self) -> str:
        return str(self.environment / "bin" / "python")

    def _install(self, *command: str) -> None:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise Unreachable(
                "E-S3-INSTALL",
                f"{' '.join(command[1:4])} ended with {done.returncode} in {self.environment}: {' '.join(last)}; "
                f"wanted: {' and '.join(PACKAGES)}; check that pip reaches its package index",
            )

    def _conf(self, daemon: str) -> Path:
        return self.home / "etc" / f"{daemon}-server.conf"

    def _bound(self, daemon: str) -> int:
        """The port that the daemon was configured for; 0: it never was."""
        conf = configparser.ConfigParser(interpolation=None)
        conf.read(self._conf(daemon))
        return conf.getint("DEFAULT", "bind_port", fallback=0)

    def _resumed(self) -> bool:
        """Whether a server over this home runs already, on the port that is wanted."""
        if self.port not in (0, self._bound("proxy")) or not self.running:
            return False
        self.port = self._bound("proxy")
        return True

    def _configure(self) -> None:
        for folder in ("etc", "run", "data/disk"):
            (self.home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        self.log.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check_attributes()
        found = ports.free(len(DAEMONS))
        self.port = self.port or found[-1]
        for daemon, port in zip(DAEMONS, [*found[:-1], self.port], strict=True):
            common = {
                "bind_ip": "127.0.0.1",
                "bind_port": str(port),
                "swift_dir": str(self.home / "etc"),
                "devices": str(self.home / "data"),
                "mount_check": "false",
                "user": pwd.getpwuid(os.geteuid()).pw_name,
                "workers": "0",
                "bind_timeout": "2",
                "log_level": "WARNING",
                "container_update_timeout": "30",
            }
            parts = self._door() if daemon == "proxy" else _plain(daemon)
            _write(self._conf(daemon), {"DEFAULT": common} | parts)
        _write(
            self.home / "etc" / "swift.conf",
            {
                "swift-hash": {"swift_hash_path_prefix": ACCOUNT, "swift_hash_path_suffix": ACCOUNT},
                "storage-policy:0": {"name": "default", "default": "yes"},
                "swift-constraints": {"max_header_size": "16384"},
            },
        )
        rings = [self._python, "-c", RINGS, str(self.home / "etc"), *map(str, found[:-1])]
        done = subprocess.run(rings, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Unreachable("E-S3-START", f"no rings in {self.home}: {' '.join(done.stderr.splitlines()[-1:])}")

    def _door(self) -> dict[str, dict[str, str]]:
        """The proxy's pipeline, by which S3 comes in."""
        options = {
            "s3api": {"location": "us-east-1", "max_upload_part_num": "10000"},
            "tempauth": {f"user_{ACCOUNT}_{USER}": f"{self.secret_key} .admin"},
            "versioned_writes": {"allow_versioned_writes": "true", "allow_object_versioning": "true"},
        }
        filters = {f"filter:{name}": {"use": f"egg:swift#{name}"} | options.get(name, {}) for name in DOOR.split()}
        proxy = {"use": "egg:swift#proxy", "account_autocreate": "true", "allow_account_management": "true"}
        return {"pipeline:main": {"pipeline": f"{DOOR} proxy-server"}, "app:proxy-server": proxy} | filters

    def _check_attributes(self) -> None:
        """Swift keeps what it knows about an object in extended attributes of its file."""
        probe = self.home / "run" / "probe"
        probe.touch()
        try:
            os.setxattr(probe, "user.vernal", b"1")
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            raise Coded(
                "E-S3-HOME",
                f"{self.home} stands on a file system without user attributes; wanted: ext4, xfs, btrfs or a recent "
                f"tmpfs; choose another folder",
            ) from None

    def _launch(self, daemon: str, module: str) -> subprocess.Popen[bytes]:
        """The pid stays the daemon's: `env` becomes Python. Without its own DNS, eventlet starts twice as fast."""
        command = ["env", "EVENTLET_NO_GREENDNS=yes", self._python, "-m", module, str(self._conf(daemon)), "-v"]
        with self._log(daemon).open("ab") as log:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.home
            )
        (self.home / "run" / f"{daemon}.pid").write_text(str(child.pid))
        return child

    def _pid(self, daemon: str) -> int | None:
        """The daemon's process, if it is alive and really ours: its command line names this home's configuration."""
        pid = processes.written(self.home / "run" / f"{daemon}.pid")
        return pid if pid and processes.carries(pid, str(self._conf(daemon))) else None

    @property
    def answers(self) -> bool:
        try:
            for daemon in DAEMONS:
                socket.create_connection(("127.0.0.1", self._bound(daemon)), 1).close()
            with urllib.request.urlopen(f"http://127.0.0.1:{self._bound('proxy')}/healthcheck", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def _log(self, daemon: str) -> Path:
        return self.log / f"{daemon}.log"

    def _last_words(self, daemons: list[str]) -> str:
        words = [f"{daemon}: {' '.join(self._log(daemon).read_text().splitlines()[-1:])}" for daemon in daemons]
        return f"{'; '.join(words) or 'no daemon fell, none answers'}; see {self.log}"


def _plain(daemon: str) -> dict[str, dict[str, str]]:
    app = f"{daemon}-server"
    return {"pipeline:main": {"pipeline": app}, f"app:{app}": {"use": f"egg:swift#{daemon}"}}


def _write(path: Path, sections: dict[str, dict[str, str]]) -> None:
    conf, text = configparser.ConfigParser(interpolation=None), io.StringIO()
    conf.read_dict(sections)
    conf.write(text)
    write_privately(path, text.getvalue())  # the door's holds the secret


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """One process at a time; a killed one lets go by itself."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
