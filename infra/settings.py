"""Where things live and how fast: the only reader of the environment.

Nothing here may change a weight or a verdict (that is the recipe's part), so nothing here enters a digest.
Every setting is an environment variable with the prefix `VERNAL_`; credentials of S3 are those that boto3 reads
(`AWS_ACCESS_KEY_ID` and so on).
"""

import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Embedded defaults: everything below one folder of the working directory, no server needed."""

    model_config = SettingsConfigDict(env_prefix="VERNAL_", frozen=True, extra="ignore")

    home: Path = Field(Path(".vernal"), description="folder of everything that Vernal keeps on this machine")
    store: str = Field("", description="artifact store: a folder or s3://bucket/prefix; empty: HOME/store")
    ledger: SecretStr = Field(
        SecretStr(""), description="SQLAlchemy URL of leases and decisions; empty: SQLite in HOME"
    )
    mlflow: SecretStr = Field(SecretStr(""), description="MLflow tracking URI; empty: SQLite in HOME")
    s3_endpoint: str = Field("", description="endpoint of an S3-compatible server; empty: Amazon's")
    data: str = Field("", description="where relative data sources are looked up; empty: HOME/data")
    models: str = Field("", description="where relative base models are looked up; empty: HOME/models")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where tensors live; auto: a GPU if there is one"
    )
    price_per_hour: float | None = Field(
        None, gt=0, description="price of an hour of this machine, in any currency; none: no costs are shown"
    )
    checkpoint_seconds: float = Field(60.0, ge=0, description="seconds of training between two checkpoints")

    stack_ports: dict[str, int] = Field(
        {},
        description='ports of `vernal up`, as JSON: {"prefect": 4200}; others: those of the last start, else free ones',
    )

    @property
    def stack(self) -> Path:
        """What `vernal up` keeps: data and logs."""
        return self.home.absolute() / "stack"

    @property
    def stack_file(self) -> Path:
        """There while the stack is up: what a command needs to use it."""
        return self.stack / "environment"

    @property
    def store_uri(self) -> str:
        return self.store or str(self.home.absolute() / "store")

    @property
    def ledger_url(self) -> str:
        return self.ledger.get_secret_value() or f"sqlite:///{self.home.absolute() / 'ledger.db'}"

    @property
    def mlflow_uri(self) -> str:
        return self.mlflow.get_secret_value() or f"sqlite:///{self.home.absolute() / 'mlflow.db'}"

    @property
    def mlflow_shown(self) -> str:
        """The tracking URI without a password."""
        return re.sub(r"//[^/@]*@", "//", self.mlflow_uri)

    @property
    def data_root(self) -> str:
        return self.data or str(self.home.absolute() / "data")

    @property
    def models_root(self) -> str:
        return self.models or str(self.home.absolute() / "models")

    @property
    def cache(self) -> Path:
        """Verified copies of remote objects; may be deleted at any time."""
        return self.home.absolute() / "cache"

    @property
    def work(self) -> Path:
        """Half-made outputs; may be deleted when nothing runs."""
        return self.home.absolute() / "work"


@cache
def settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()


def take_in(values: Mapping[str, str]) -> None:
    """Make what the stack tells part of this process's environment; what the user set stays.

    Before Prefect, MLflow or boto3 are imported.
    """
    for name, value in values.items():
        os.environ.setdefault(name, value)
    settings.cache_clear()


def overruled(values: Mapping[str, str]) -> list[str]:
    """Names under which the user's own environment says something else."""
    return [name for name, value in values.items() if os.environ.get(name, value) != value]


def environment_with(values: Mapping[str, str], importable: Path) -> dict[str, str]:
    """The environment of a child that belongs to the stack: ours, and `values` whatever ours says.

    It can import what stands in the folder `importable`. Profiles and session tokens of the user's would lead it
    elsewhere.
    """
    foreign = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "PREFECT_PROFILE", "PREFECT_API_KEY")
    ours = {name: value for name, value in os.environ.items() if name not in foreign}
    path = os.pathsep.join(filter(None, [str(importable), ours.get("PYTHONPATH", "")]))
    return {**ours, **values, "PYTHONPATH": path}


def quiet_mlflow() -> None:
    """Settings that MLflow reads from the environment as it is imported; what the user set stays, pickles never load.

    No telemetry, nothing on the terminal, no wait of minutes for a server that is gone (its own default is 7 retries),
    or silent (two minutes each): with these it is given up after 125 s.
    """
    os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "40",
    }.items():
        os.environ.setdefault(name, value)


HEARTBEAT = 30  # seconds between two signs of life of a run; Prefect's own: 180
IN_PREFECT = {  # of every process that runs a flow, here or on a worker
    "PREFECT_LOGGING_EXTRA_LOGGERS": "vernal",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # what its server says while its database starts again
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def quiet_prefect() -> None:
    """Settings that Prefect reads from the environment as it is imported; what the user set stays.

    Our own log lines reach Prefect's pages, its own stay off the terminal; no telemetry; a server of the run's own may
    take two minutes to start (the default of 20 s failed on a busy machine).
    """
    for name, value in {
        **IN_PREFECT,
        "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }.items():
        os.environ.setdefault(name, value)


def repeatable_cublas() -> None:
    """Scratch memory of one size for cuBLAS, which then sums in the same order each time; what the user set stays."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def torchrun_attempt() -> str:
    """How often torchrun has started the processes of this group again."""
    return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")


def prefect_url() -> str:
    """The API of the Prefect server that the environment names; a profile of Prefect's may name another."""
    return os.environ.get("PREFECT_API_URL", "")
