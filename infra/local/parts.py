"""What the local stack is made of: PostgreSQL, S3, Prefect, MLflow and a worker, without Docker (Linux).

    postgres ──> prefect ──> worker     what stands to the right starts after what stands to its left
       └───────> mlflow ───────┤
    s3 ────────────────────────┘

Passwords are made here and travel in private files and environments, never in a command line. Prefect asks for one,
because whoever may make a deployment may run anything as this user.
"""

import base64
import json
import secrets
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from infra.errors import Unreachable
from infra.local.postgres import LocalPostgres
from infra.local.private import write_privately
from infra.local.program import Program
from infra.local.s3 import LocalS3
from infra.local.supervisor import Part
from infra.settings import HEARTBEAT, IN_PREFECT, environment_with, settings

ROOT = Path(__file__).parents[2]  # from where flows and tasks are imported
NAMES = ("postgres", "s3", "prefect", "mlflow", "worker")
BUCKET = "vernal"
POOL = "local"
QUIET = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
MAKE_BUCKET = "import sys; from infra.storage.s3 import S3Bucket; S3Bucket(sys.argv[1], '', sys.argv[2]).create()"
LEASES = "prefect.server.concurrency.lease_storage.filesystem"  # in memory they would be forgotten at each restart
SAVING = 30.0  # seconds that runs have to save their work when the worker ends


class Parts:
    """The parts below `home`, at the ports `at`."""

    def __init__(self, home: Path, at: Mapping[str, int]) -> None:
        self.home = home
        self.log = home / "log"
        self._postgres = LocalPostgres(home / "postgres", at.get("postgres", 0), self.log / "postgres.log")
        self._s3 = LocalS3(home / "s3", at.get("s3", 0), log=self.log / "s3")
        self._prefect_port, self._mlflow_port = str(at.get("prefect", 0)), str(at.get("mlflow", 0))

    @property
    def all(self) -> list[Part]:
        """In the order in which they start."""
        postgres, s3 = self._postgres, self._s3
        return [
            Part("postgres", postgres, f"127.0.0.1:{postgres.port}", str(postgres.log)),
            Part("s3", s3, s3.endpoint, str(s3.log), furnish=self._make_bucket),
            self._part("prefect", self._prefect, self._pages, ("postgres",)),
            self._part("mlflow", self._mlflow, self._tracking, ("postgres",)),
            self._part("worker", self._worker, f"pool {POOL}", ("s3", "prefect", "mlflow"), self._resume),
        ]

    @property
    def environment(self) -> dict[str, str]:
        """What a command needs to use them."""
        return {
            "VERNAL_STORE": f"s3://{BUCKET}/store",
            "VERNAL_S3_ENDPOINT": self._s3.endpoint,
            "VERNAL_LEDGER": self._postgres.url,
            "VERNAL_MLFLOW": self._tracking,
            "PREFECT_API_URL": f"{self._pages}/api",
            "PREFECT_API_AUTH_STRING": self._password,
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT),
            **self._keys,
        }

    @property
    def _keys(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": self._s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self._s3.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "MLFLOW_S3_ENDPOINT_URL": self._s3.endpoint,
        }

    @property
    def _pages(self) -> str:
        return f"http://127.0.0.1:{self._prefect_port}"

    @property
    def _tracking(self) -> str:
        return f"http://127.0.0.1:{self._mlflow_port}"

    @cached_property
    def _password(self) -> str:
        """User and password of Prefect, made once."""
        path = self.home / "prefect.password"
        if not path.exists():
            write_privately(path, f"vernal:{secrets.token_urlsafe(18)}")
        return path.read_text()

    @property
    def _prefect(self) -> Program:
        def environment() -> dict[str, str]:
            database = self._postgres.database("prefect").removeprefix("postgresql")
            return {
                "PREFECT_HOME": str(self.home / "prefect"),
                "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg{database}",
                "PREFECT_API_URL": f"{self._pages}/api",
                "PREFECT_API_AUTH_STRING": self._password,
                "PREFECT_SERVER_API_AUTH_STRING": self._password,
                "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": self._pages,
                "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": LEASES,
                "PREFECT_UI_API_URL": f"{self._pages}/api",
            }

        command = ["prefect", "server", "start", "--host", "127.0.0.1", "--port", self._prefect_port]
        return self._program("prefect", command, environment, lambda _: _fine(f"{self._pages}/api/ready"))

    @property
    def _mlflow(self) -> Program:
        def environment() -> dict[str, str]:
            database = self._postgres.database("mlflow").removeprefix("postgresql")
            return {
                "MLFLOW_BACKEND_STORE_URI": f"postgresql+psycopg2{database}",
                "MLFLOW_DEFAULT_ARTIFACT_ROOT": f"s3://{BUCKET}/mlflow",
                "MLFLOW_SERVE_ARTIFACTS": "false",  # clients go to the bucket themselves: no limits of size and time
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 1.5 GiB for what nobody uses here
                **self._keys,
            }

        command = ["mlflow", "server", "--host", "127.0.0.1", "--port", self._mlflow_port, "--workers", "1"]
        return self._program("mlflow", command, environment, lambda _: _fine(f"{self._tracking}/health"))

    @property
    def _worker(self) -> Program:
        """It has what every command has, and finds data and models from wherever a run stands."""

        def environment() -> dict[str, str]:
            return {
                "VERNAL_HOME": str(self.home.parent),
                "VERNAL_DATA": _absolute(settings().data_root),
                "VERNAL_MODELS": _absolute(settings().models_root),
                "PREFECT_HOME": str(self.home / "worker"),
                "PREFECT_WORKER_QUERY_SECONDS": "2",
                **IN_PREFECT,
                **self.environment,
            }

        command = ["prefect", "worker", "start", "--name", POOL, "--pool", POOL, "--type", "process"]
        return self._program("worker", command, environment, self._polls, SAVING, self._pause)

    def _part(
        self,
        name: str,
        program: Program,
        address: str,
        after: tuple[str, ...],
        furnish: Callable[[], None] = lambda: None,
    ) -> Part:
        return Part(name, program, address, str(program.log), after, furnish)

    def _program(
        self,
        name: str,
        command: list[str],
        environment: Callable[[], dict[str, str]],
        ready: Callable[[float], bool],
        patience: float = 15.0,
        drain: Callable[[], None] | None = None,
    ) -> Program:
        def whole() -> dict[str, str]:
            return environment_with({**QUIET, **environment()}, ROOT)

        python = [sys.executable, "-m", *command]
        return Program(name, self.home / name, self.log / f"{name}.log", python, whole, ready, patience, drain)

    def _polls(self, since: float) -> bool:
        """Whether the pool is there and a worker has asked it for runs since then."""
        try:
            workers = self._ask("POST", f"work_pools/{POOL}/workers/filter", {})
        except (OSError, ValueError):
            return False
        heard = [datetime.fromisoformat(each["last_heartbeat_time"]).timestamp() for each in workers]
        return max(heard, default=-1.0) >= since

    def _pause(self) -> None:
        """No run starts while the worker ends; each that was going on is told, and reports its own end."""
        with suppress(OSError):
            self._ask("PATCH", f"work_pools/{POOL}", {"is_paused": True})
            self._paused.touch()

    def _resume(self) -> None:
        """Runs start again, unless it was somebody else who paused the pool."""
        if self._paused.exists():
            self._ask("PATCH", f"work_pools/{POOL}", {"is_paused": False})
            self._paused.unlink()

    @property
    def _paused(self) -> Path:
        return self.home / "worker" / "paused"

    def _ask(self, method: str, path: str, body: dict[str, Any]) -> Any:
        """Prefect's answer."""
        basic = base64.b64encode(self._password.encode()).decode()
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {basic}"}
        request = urllib.request.Request(f"{self._pages}/api/{path}", json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=5) as answer:
            return json.loads(answer.read() or b"null")

    def _make_bucket(self) -> None:
        """In a process of its own: what the SDK takes would stay in ours."""
        command = [sys.executable, "-c", MAKE_BUCKET, BUCKET, self._s3.endpoint]
        env = environment_with(self._keys, ROOT)
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        if done.returncode:
            last = " ".join(done.stderr.splitlines()[-1:])
            raise Unreachable("E-STACK-PART", f"s3 at {self._s3.endpoint} takes no bucket {BUCKET}: {last}")


def _fine(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _absolute(place: str) -> str:
    return place if "://" in place else str(Path(place).absolute())
