"""Runs and versions in MLflow. The only import of mlflow, and only when something is recorded (it takes seconds).

Always `MlflowClient` with explicit run ids: MLflow's fluent API keeps the current run in a thread-local, and a task
thread would write into a run of its own. Everything here may be repeated: a run is found again by its run key, a
version by its key. MLflow has no idempotent call to create a version, and its client sends a POST again when the answer
was lost. So a version is searched before and after it is made, under a lease that the caller holds; of several with one
key the lowest counts and the others are tagged.

A version is a whole MLflow model: the bundle plus the script `infra/endpoint/pyfunc.py`, no pickle. The price: the
bundle lies in MLflow's artifacts as well as in our store.
"""

import json
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar
from urllib.parse import urlsplit

from infra.errors import Coded, Denied, Missing, Unreachable
from infra.settings import quiet_mlflow

Alias = Literal["champion", "challenger", "previous"]
Status = Literal["FINISHED", "FAILED", "KILLED"]
T = TypeVar("T")

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
KEY = re.compile(r"[A-Za-z0-9:._/@-]+")
SQLITE = "sqlite:///"
SCRIPT = Path(__file__).parent / "endpoint" / "pyfunc.py"
LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors")  # what a bundle needs beside Vernal
POINTS = 1000  # metric points that MLflow takes in one call
PARAMS = 100  # parameters that it takes in one call
DIGEST = 36  # characters that it keeps of a dataset's digest
DESCRIPTION = 5000  # characters that it keeps of what is said of a version
LENGTH = 6000  # characters of a parameter's value that it keeps
PATIENCE = 10.0  # seconds that a server may take for its first answer
BELOW = {"sqlalchemy", "alembic", "requests", "urllib3", "botocore", "boto3"}  # whose errors MLflow lets through
REFUSED = {"PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"}
WRONG = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST"}


class Point(NamedTuple):
    """One value of a metric: `step` counts optimizer steps, `ms` is Unix time in milliseconds."""

    name: str
    value: float
    step: int
    ms: int


class Found(NamedTuple):
    """A version as MLflow knows it; another model under the same name and number has another source or time."""

    name: str
    number: int
    source: str
    made: int  # Unix time in milliseconds


class Running(NamedTuple):
    """A run of ours that MLflow takes for unfinished."""

    id: str
    name: str
    key: str


class Registry:
    """MLflow behind `uri`: sqlite:///file, with the artifacts of runs below `artifacts`, or a server at http(s)://.

    Opens nothing until first use. Every method raises `Unreachable` when MLflow does not answer, `Denied` when it
    refuses us, `Missing` when it does not know what was named, and E-NAME for a name or key it should never see.
    """

    def __init__(self, uri: str, artifacts: Path) -> None:
        self._uri = uri
        self._artifacts = artifacts.absolute()
        quiet_mlflow()

    def start(self, experiment: str, run_key: str, name: str, tags: Mapping[str, str]) -> str:
        """Id of the run that carries `run_key`, set running again; a new one if there is none."""
        _allowed(run_key, KEY)
        with self._sorted():
            home = self._experiment(experiment)
            run_id = self._run(home, run_key)
            if run_id is None:
                self._client.create_run(home, tags={"vernal.run_key": run_key}, run_name=name)
                run_id = self._run(home, run_key)
            if run_id is None:
                raise Unreachable("E-MLFLOW-UNAVAILABLE", f"{self._where} made run {run_key} and does not find it")
            self._client.update_run(run_id, status="RUNNING")
            for key, value in tags.items():
                self._client.set_tag(run_id, key, value)
            return run_id

    def params(self, run_id: str, mapping: Mapping[str, Any]) -> None:
        """Record what a run was given. The same again is no error; another value under a known name is E-MLFLOW."""
        values = [(name, str(value)[:LENGTH]) for name, value in mapping.items()]
        with self._sorted():
            from mlflow.entities import Param

            for batch in _batches(values, PARAMS):
                self._client.log_batch(run_id, params=[Param(*pair) for pair in batch])

    def log(self, run_id: str, points: Iterable[Point]) -> None:
        """Record points of metrics; a point sent twice counts once."""
        with self._sorted():
            from mlflow.entities import Metric

            for batch in _batches(list(points), POINTS):
                metrics = [Metric(point.name, point.value, point.ms, point.step) for point in batch]
                self._client.log_batch(run_id, metrics=metrics)

    def artifact(self, run_id: str, path: Path, folder: str | None = None) -> None:
        """Keep a file, or what a folder holds, with the run, in `folder` of its artifacts."""
        with self._sorted():
            keep = self._client.log_artifacts if path.is_dir() else self._client.log_artifact
            keep(run_id, str(path), folder)

    def end(self, run_id: str, status: Status) -> None:
        """Close a run."""
        with self._sorted():
            self._client.set_terminated(run_id, status)

    def dataset(self, run_id: str, name: str, digest: str, about: Mapping[str, Any]) -> None:
        """Record which data a run was trained on; the same again counts once."""
        with self._sorted():
            from mlflow.entities import Dataset, DatasetInput, InputTag

            told = json.dumps({"digest": digest, **about})
            short = digest.removeprefix("sha256:")[:DIGEST]
            data = Dataset(name=name, digest=short, source_type="vernal", source=told, profile=told)
            inputs = [DatasetInput(data, [InputTag("mlflow.data.context", "training")])]
            self._client.log_inputs(run_id, inputs)

    def run_of(self, name: str, number: int) -> str:
        """Id of the run that a version was made by."""
        _allowed(name, NAME)
        with self._sorted():
            return str(self._client.get_model_version(name, str(number)).run_id)

    def describe(self, name: str, number: int, text: str) -> None:
        """Write what a version's page says of it, in Markdown."""
        _allowed(name, NAME)
        with self._sorted():
            self._client.update_model_version(name, str(number), text[:DESCRIPTION])

    def links(self, name: str, number: int) -> dict[str, str]:
        """Where a server shows a version, its run and the run's files; nothing without a server."""
        if not self._served:
            return {}
        _allowed(name, NAME)
        with self._sorted():
            run = self._client.get_run(self.run_of(name, number)).info
        pages = self._redacted(self._uri).rstrip("/") + "/#"
        there = f"{pages}/experiments/{run.experiment_id}/runs/{run.run_id}"
        return {"version": f"{pages}/models/{name}/versions/{number}", "run": there, "files": f"{there}/artifacts"}

    def running(self) -> list[Running]:
        """All runs of ours that were begun and not ended."""
        found, token = list[Running](), None
        if self._blank:
            return found
        with self._sorted():
            homes = [each.experiment_id for each in self._client.search_experiments()]
            while homes:
                page = self._client.search_runs(homes, "attributes.status = 'RUNNING'", page_token=token)
                named = ((run, run.data.tags.get("vernal.run_key")) for run in page)
                found += [Running(run.info.run_id, run.info.run_name, key) for run, key in named if key]
                token = page.token
                if not token:
                    break
        return found

    def kill(self, run_id: str) -> bool:
        """End a run as killed if it is still running; whether it was."""
        with self._sorted():
            if self._client.get_run(run_id).info.status != "RUNNING":
                return False
            self._client.set_terminated(run_id, "KILLED")
            return True

    def close(self, experiment: str, run_key: str, status: Status) -> None:
        """Close whatever still runs under `run_key`; no error if nothing does."""
        _allowed(run_key, KEY)
        if self._blank:
            return
        with self._sorted():
            home = self._client.get_experiment_by_name(experiment)
            found = f"tags.`vernal.run_key` = '{run_key}' and attributes.status = 'RUNNING'"
            for run in self._client.search_runs([home.experiment_id], found) if home else ():
                self._client.set_terminated(run.info.run_id, status)

    def register(
        self,
        name: str,
        key: str,
        run_id: str,
        bundle: Path,
        inputs: Mapping[str, str],
        tags: Mapping[str, str],
        description: str,
    ) -> int:
        """Number of the version of `name` that carries `key`, made from the folder `bundle` if there is none.

        The caller holds the lease of `name`: without one, two callers make two versions.
        """
        _allowed(name, NAME)
        _allowed(key, KEY)
        with self._sorted():
            if (there := self._version(name, key)) is not None:
                return there
            self._log_model(run_id, bundle, inputs)
            self._name(name)
            doubt: Exception | None = None
            try:
                every = {**tags, "vernal.key": key}
                source = f"runs:/{run_id}/model"
                self._client.create_model_version(name, source, run_id, tags=every, description=description)
            except Exception as error:  # it may be there all the same: the answer can be lost, the work done
                doubt = error
            if (made := self._version(name, key)) is not None:
                return made
            raise doubt or Unreachable("E-MLFLOW-UNAVAILABLE", f"{self._where} made version {key} and does not find it")

    def tag(self, name: str, number: int, key: str, value: str) -> None:
        """Write a tag of a version."""
        _allowed(name, NAME)
        with self._sorted():
            self._client.set_model_version_tag(name, str(number), key, value)

    def tags(self, name: str, number: int) -> dict[str, str]:
        """The tags of a version."""
        _allowed(name, NAME)
        with self._sorted():
            return dict(self._client.get_model_version(name, str(number)).tags)

    def aliases(self, name: str) -> dict[str, int]:
        """Alias -> number of the version it points to; empty for a name that was never registered."""
        _allowed(name, NAME)
        try:
            with self._sorted():
                model = self._client.get_registered_model(name)
        except Missing:
            return {}
        return {alias: int(number) for alias, number in model.aliases.items()}

    def point(self, name: str, alias: Alias, number: int) -> None:
        """Let an alias point to a version, in one step."""
        _allowed(name, NAME)
        with self._sorted():
            self._client.set_registered_model_alias(name, alias, str(number))

    def unpoint(self, name: str, alias: Alias) -> None:
        """Take an alias away; no error if there is none."""
        if alias in self.aliases(name):
            with self._sorted():
                self._client.delete_registered_model_alias(name, alias)

    def found(self, name: str, which: str) -> Found:
        """The version of any registered model, ours or not, that has this number or alias."""
        with self._sorted():
            number = which if which.isdigit() else self._client.get_registered_model(name).aliases.get(which)
            if number is None:
                raise Missing(
                    "E-MLFLOW-MISSING", f"{self._where}: {name} has no alias {which}; look for it in its pages"
                )
            one = self._client.get_model_version(name, number)
            return Found(name, int(one.version), str(one.source), int(one.creation_timestamp))

    def download(self, version: Found, folder: Path) -> Path:
        """Everything that MLflow keeps of a version, laid out in `folder` and not looked into."""
        with self._sorted():
            from mlflow.artifacts import download_artifacts

            where = self._client.get_model_version_download_uri(version.name, str(version.number))
            return Path(download_artifacts(where, dst_path=str(folder), tracking_uri=self._uri))

    @property
    def _served(self) -> bool:
        return urlsplit(self._uri).scheme in ("http", "https")

    @property
    def _blank(self) -> bool:
        """Whether nothing was ever recorded here: who looks for what is open need not wait for tables to be made."""
        return self._uri.startswith(SQLITE) and not Path(self._uri.removeprefix(SQLITE)).exists()

    @property
    def _where(self) -> str:
        return f"MLflow at {self._redacted(self._uri)}"

    def _redacted(self, text: str) -> str:
        login, at, _ = urlsplit(self._uri).netloc.rpartition("@")
        return text.replace(login + at, "") if at else text

    @cached_property
    def _client(self) -> Any:
        if self._served:
            self._knock()
        elif self._uri.startswith(SQLITE):
            self._make_database(Path(self._uri.removeprefix(SQLITE)))
        else:
            raise Coded(
                "E-MLFLOW-URI",
                f"the tracking URI {self._redacted(self._uri)!r} cannot be used; wanted: sqlite:///folder/mlflow.db or "
                f"http(s)://host:port; set VERNAL_MLFLOW",
            )
        from mlflow import MlflowClient

        return MlflowClient(self._uri, self._uri)

    def _knock(self) -> None:
        """Any answer will do: MLflow's own client would try for minutes to reach a host that is not there."""
        import requests

        try:
            requests.get(f"{self._uri.rstrip('/')}/health", timeout=PATIENCE)
        except requests.exceptions.SSLError:
            return  # it is there; whether to trust it is MLflow's setting

    def _make_database(self, path: Path) -> None:
        """MLflow's tables, made elsewhere and put in place in one step; who comes second joins the first.

        MLflow makes them in some 60 migrations that take seconds, and never mends what a kill leaves half made.
        """
        if path.exists():
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="~", dir=path.parent) as folder:
                from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

                made = Path(folder, path.name)
                SqlAlchemyStore(f"sqlite:///{made}", self._artifacts.as_uri()).engine.dispose()  # type: ignore[no-untyped-call]
                with suppress(FileExistsError):
                    os.link(made, path)
        except OSError as error:
            raise Denied(
                "E-MLFLOW-AUTH", f"MLflow's folder {path.parent}: {error.strerror}; make it writable"
            ) from None

    def _experiment(self, name: str) -> str:
        """Id of an experiment, made or restored if need be."""
        from mlflow import MlflowException

        found = self._client.get_experiment_by_name(name)
        if found is None:
            try:
                location = None if self._served else self._artifacts.as_uri()
                return str(self._client.create_experiment(name, artifact_location=location))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another made it first
                    raise
                found = self._client.get_experiment_by_name(name)
        if found.lifecycle_stage == "deleted":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _run(self, experiment: str, run_key: str) -> str | None:
        """The oldest run with this key; younger ones that still run are leftovers of a lost answer and are closed."""
        runs = self._client.search_runs(
            [experiment], f"tags.`vernal.run_key` = '{run_key}'", order_by=["attributes.start_time ASC"]
        )
        for stray in runs[1:]:
            if stray.info.status == "RUNNING":
                self._client.set_terminated(stray.info.run_id, "KILLED")
        return str(runs[0].info.run_id) if runs else None

    def _version(self, name: str, key: str) -> int | None:
        """The lowest version with this key; the others are tagged as its duplicates."""
        found = self._client.search_model_versions(f"name = '{name}' and tags.`vernal.key` = '{key}'")
        numbers = sorted(int(one.version) for one in found)
        for number in numbers[1:]:
            self._client.set_model_version_tag(name, str(number), "vernal.duplicate", "true")
        return numbers[0] if numbers else None

    def _name(self, name: str) -> None:
        from mlflow import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise

    def _log_model(self, run_id: str, bundle: Path, inputs: Mapping[str, str]) -> None:
        """Write the MLflow model around `bundle` into the artifacts of the run, as `model`."""
        from mlflow import pyfunc

        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it wishes for type hints and examples; the signature says it
            pyfunc.save_model(
                f"{folder}/model",
                python_model=str(SCRIPT),
                artifacts={"bundle": str(bundle)},
                pip_requirements=[f"{library}=={installed(library)}" for library in LIBRARIES],
                signature=_signature(inputs),
            )
            self._client.log_artifacts(run_id, f"{folder}/model", "model")

    @contextmanager
    def _sorted(self) -> Iterator[None]:
        """MLflow's errors, and those of the libraries below it, by their remedy."""
        try:
            yield
        except Coded:
            raise
        except Exception as error:
            known = self._coded(error)
            if known is None:
                raise
            raise known from error

    def _coded(self, error: Exception) -> Coded | None:
        below = type(error).__module__.partition(".")[0]
        if below not in BELOW and below != "mlflow":
            return None
        kind = getattr(error, "error_code", None)
        status = getattr(getattr(error, "response", None), "status_code", None)
        found = self._redacted(" ".join(str(error).split()))[:500]
        if kind in REFUSED or status in (401, 403):
            return Denied(
                "E-MLFLOW-AUTH",
                f"{self._where} refuses us: {found}; mend MLFLOW_TRACKING_USERNAME and _PASSWORD, or the rights",
            )
        if kind == "RESOURCE_DOES_NOT_EXIST":
            return Missing("E-MLFLOW-MISSING", f"{self._where} does not know it: {found}; look for it in its pages")
        if kind in WRONG:
            return Coded("E-MLFLOW", f"{self._where} does not take it: {found}; mend what was sent")
        return Unreachable(
            "E-MLFLOW-UNAVAILABLE",
            f"{self._where} does not answer as it should: {found}; start it or mend VERNAL_MLFLOW",
        )


def _signature(inputs: Mapping[str, str]) -> Any:
    """A column for each input, of its kind; what comes out is of the problem's kind and has no one type."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array, Object, Property

    text = DataType.string
    turn = Object([Property("role", text), Property("content", text)])
    several = {"words": Array(text), "texts": Array(text), "turns": Array(turn)}
    return ModelSignature(Schema([ColSpec(several.get(kind, text), role) for role, kind in inputs.items()]))


def _allowed(text: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(text):
        raise Coded("E-NAME", f"{text[:80]!r} is no name for the registry; wanted: {pattern.pattern}; rename it")


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
