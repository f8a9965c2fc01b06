"""A bad wire to S3, PostgreSQL, MLflow or Prefect: the same outcome, or a coded error in time; never a wrong one.

Between us and each real server stands a proxy that strikes no message, one in ten, or every second one, with each fault
in turn. What is done over it is what a run does: small, but all of it. Either it comes out as undisturbed, or it ends
with a coded error within `DEADLINE`; and done again over a healthy wire it comes out as undisturbed, with nothing left
twice or by halves.

A flipped bit: what S3 sends is verified by its SHA-256, so there the wire is plain. Rows of PostgreSQL and answers of
MLflow and Prefect carry no digest, and TCP's own sum is too weak to rely on; what finds a flipped bit there is TLS, as
in production. So these tests flip bits in TLS. On a plain wire to PostgreSQL, with a bit flipped in 3 % of the
messages, 40 tries gave 32 coded errors and 8 outcomes as undisturbed; none was wrong, and nothing rules it out.

The clients' patience is shortened, so that cases take seconds; one test keeps it as it is.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from sqlalchemy import create_engine, make_url, text

from flows import events, scheduling, sensor
from infra.errors import Coded
from infra.ledger import Decision, Kind, Ledger
from infra.local import ports
from infra.local.postgres import LocalPostgres
from infra.local.prefect import LocalPrefect
from infra.local.s3 import LocalS3
from infra.registry import Point, Registry
from infra.storage import S3Bucket, Store
from tests import makers
from tests.faults.proxy import DOWN, Proxy
from tests.faults.tls import Ingress, certificate

pytestmark = pytest.mark.faults

DEADLINE = 150.0  # seconds in which everything that is done here has come to an end
TRIES = 3  # of each case
SHARES = (0.0, 0.1, 0.5)
MB = 1_000_000
ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "flows" / "recipes" / "customer_messages.jsonl"

RECIPE = """
name: wired
task: text-classification
data: {source: messages.jsonl, label: intent}
tokens: {length: 48, tokenizer: {train: bpe, vocabulary: 500}}
model: {base: {architecture: encoder, num_layers: 1, d_model: 32, num_heads: 2}}
train: {epochs: 1, precision: fp32}
rules: {min_per_class: 1}
"""

FLIPPED = "flipped bit"
FAULTS: dict[str, Callable[[Proxy], None]] = {
    "refuse": Proxy.refuse,
    "reset": lambda wire: wire.reset_after(DOWN, 20),
    "black hole": Proxy.blackhole,
    "lost response": Proxy.drop_response,
    "slow": lambda wire: wire.latency(0.05),
    FLIPPED: Proxy.flip_anywhere,
}

tally: dict[tuple[str, str, float], Counter[str]] = {}


class Service(Protocol):
    """A real server and what a run does with it. `place` keeps one doing apart from all others."""

    port: int

    def do(self, port: int, place: str) -> Any:
        """All of it, over this port; what came out, without any word of the place."""

    def left(self, place: str) -> Any:
        """What stands on the server afterwards, asked directly."""


class S3:
    """Seven objects, one of them sent in parts, put and read back; a manifest written and read."""

    def __init__(self, server: LocalS3, folder: Path) -> None:
        self.port = server.port
        self._folder = folder
        self._objects = [os.urandom(1000 * number) for number in range(1, 7)]
        (folder / "large").write_bytes(os.urandom(11 * MB))
        S3Bucket("store", "", server.endpoint).create()

    def do(self, port: int, place: str) -> Any:
        store = self._store(port, place)
        digests = [store.put(each).digest for each in [*self._objects, self._folder / "large"]]
        store.write_manifest("run/all", {"files": digests})
        found = store.read_manifest("run/all")
        assert found
        return found, [store.open(digest).stat().st_size for digest in found["files"]]

    def left(self, place: str) -> Any:
        store = self._store(self.port, place)
        return sorted(store.digests()), list(store.manifests()), store.read_manifest("run/all")

    def _store(self, port: int, place: str) -> Store:
        """A new one, with an empty cache."""
        cache = self._folder / f"cache-{time.monotonic_ns()}"
        return Store(S3Bucket("store", place, f"http://127.0.0.1:{port}"), cache)


class PostgreSQL:
    """Three decisions and a rollout under a lease, a request, a cause; all of it read back."""

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self._url = make_url(url)
        assert self._url.port
        self.port = self._url.port
        self._tls = {"sslmode": "verify-full", "sslrootcert": str(ca)} if ca else {"sslmode": "disable"}

    def ledger(self, port: int) -> Ledger:
        url = self._url.set(port=port, query=self._tls)
        return Ledger(url.render_as_string(hide_password=False), expiry=2.0, renewal=0.5)

    def do(self, port: int, place: str) -> Any:
        ledger = self.ledger(port)
        with ledger.lease(place) as lease:
            for number, kind in enumerate(KINDS):
                last = ledger.decide(
                    lease, model=place, version=number, kind=kind, key=f"{number}", body={"it": number}
                )
            ledger.roll_out(lease, last, {"golden": 3})
            ledger.ask(lease, model=place, version=9, key="9", body={})
        cause = ledger.note(place, "cause", {"why": "poll"})
        return self._found(ledger, place), cause.body

    def left(self, place: str) -> Any:
        return self._found(self.ledger(self.port), place)

    def _found(self, ledger: Ledger, place: str) -> Any:
        return (
            [(row.version, row.previous, row.kind, row.key, row.body) for row in ledger.decisions(place)],
            [(row.version, row.body) for row in ledger.rollouts(place)],
            [(row.version, row.key) for row in ledger.asked(place)],
            [(row.key, row.body) for row in ledger.causes(place)],
            (ledger.champion(place), ledger.previous(place)),
        )


class MLflow:
    """A run begun, told of and ended; a version registered, tagged and pointed to."""

    def __init__(self, port: int, folder: Path, ca: Path | None = None, server: int = 0) -> None:
        from mlflow import MlflowClient

        self.port = port
        self._direct = MlflowClient(f"http://127.0.0.1:{server or port}")
        self._folder = folder
        self._scheme = "https" if ca else "http"
        (folder / "bundle").mkdir(exist_ok=True)
        (folder / "bundle" / "weights").write_bytes(os.urandom(200_000))

    def do(self, port: int, place: str) -> Any:
        registry = Registry(f"{self._scheme}://127.0.0.1:{port}", self._folder)
        run = registry.start("wire", place, "small", {"recipe": "sha256:1"})
        registry.params(run, {"train.epochs": 3, "train.batch": 16})
        registry.log(run, [Point("loss", 1.0 / step, step, 1_700_000_000_000 + step) for step in range(1, 300)])
        registry.dataset(run, "rows", "sha256:" + "a" * 64, {"rows": 300})
        registry.artifact(run, self._folder / "bundle" / "weights", "report")
        bundle, inputs = self._folder / "bundle", {"text": "text"}
        number = registry.register(place, f"key-{place}", run, bundle, inputs, {"gain": "0.1"}, "said of it")
        registry.tag(place, number, "verdict", "promoted")
        registry.point(place, "champion", number)
        registry.end(run, "FINISHED")
        return number, registry.aliases(place), registry.tags(place, number)["verdict"]

    def left(self, place: str) -> Any:
        home = self._direct.get_experiment_by_name("wire").experiment_id
        run, *strays = self._direct.search_runs([home], f"tags.`vernal.run_key` = '{place}'")[::-1]
        run = next(each for each in [run, *strays] if each.info.status == "FINISHED")
        versions = [one for one in self._direct.search_model_versions(f"name = '{place}'")]
        counted = [one for one in versions if "vernal.duplicate" not in one.tags]
        return (
            sorted(each.info.status for each in strays if each.info.status not in ("KILLED", "FINISHED")),
            run.data.params,
            len(self._direct.get_metric_history(run.info.run_id, "loss")),
            sorted(each.path for each in self._direct.list_artifacts(run.info.run_id)),
            [(one.version, one.description, one.run_id == run.info.run_id) for one in counted],
            self._direct.get_registered_model(place).aliases,
        )


class Prefect:
    """An event told, a recipe brought there, and one run for a reason that is found twice."""

    def __init__(self, port: int, patch: pytest.MonkeyPatch, ca: Path | None = None, server: int = 0) -> None:
        self.port = port
        self._direct = f"http://127.0.0.1:{server or port}/api"
        self._patch = patch
        self._scheme = "https" if ca else "http"

    def do(self, port: int, place: str) -> Any:
        self._patch.setenv("PREFECT_API_URL", f"{self._scheme}://127.0.0.1:{port}/api")
        recipe = makers.recipe(name=place, **CLOCKS)
        events.send(events.DATA_ARRIVED, place, {}, "one")
        brought = scheduling.schedule([(recipe, Path("."))], Path("."))
        runs = {sensor.start(recipe, ".", "poll", f"a reason for {place}") for _ in range(2)}
        named = [(each["kind"], each["name"].replace(place, "NAME")) for each in brought["changes"]]
        return named, len(brought["next"]), len(runs)

    def left(self, place: str) -> Any:
        deployments = self._ask("/deployments/filter", {"deployments": {"tags": {"all_": [place]}}})
        automations = self._ask("/automations/filter", {"limit": 200})
        runs = self._ask("/flow_runs/filter", {"flow_runs": {"tags": {"all_": ["poll", place]}}})
        told = events.written(events.DATA_ARRIVED, place, {}, "one")["id"]
        end = time.monotonic() + 20  # it writes events some time after it took them
        while not (heard := self._ask("/events/filter", {"filter": {"id": {"id": [told]}}})["events"]):
            assert time.monotonic() < end, "the event was never written"
            time.sleep(0.2)
        return (
            sorted((each["name"].replace(place, "NAME"), len(each["schedules"])) for each in deployments),
            sorted(each["name"] for each in automations if each["name"].startswith("vernal: ")),
            sorted(each["name"].replace(place, "NAME") for each in automations if f" {place}:" in each["name"]),
            len(runs),
            len(heard),
        )

    def _ask(self, path: str, body: Any) -> Any:
        answer = httpx.post(f"{self._direct}{path}", json=body, timeout=60)
        answer.raise_for_status()
        return answer.json()


KINDS: tuple[Kind, ...] = ("promoted", "refused", "promoted")
CLOCKS: dict[str, Any] = {
    "schedule": [{"cron": "0 3 * * *", "timezone": "Europe/Berlin"}],
    "triggers": {"debounce": 10, "poll": 86400},
}


@pytest.fixture(scope="module")
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that wait for a second where they would wait for half a minute."""
    backoff = "botocore.retries.standard.ExponentialBackoff.delay_amount"
    monkeypatch.setattr("infra.storage.s3.WHOLE", 8 << 20)
    monkeypatch.setattr("infra.storage.s3.PART", 5 << 20)
    monkeypatch.setattr("infra.storage.s3.SILENCE", 1)
    monkeypatch.setattr("infra.storage.s3._pause", lambda tried: 0.01)
    monkeypatch.setattr(backoff, lambda self, context: 0.01)
    monkeypatch.setattr("infra.ledger.database.SILENCE", 1.0)
    monkeypatch.setattr("flows.orchestrator.PATIENCE", 4.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", "0")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate and its key."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def s3(s3_server: LocalS3, patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> S3:
    patch.setenv("AWS_ACCESS_KEY_ID", s3_server.access_key)
    patch.setenv("AWS_SECRET_ACCESS_KEY", s3_server.secret_key)
    return S3(s3_server, tmp_path_factory.mktemp("s3-files"))


@pytest.fixture(scope="module")
def postgresql(postgres_url: str) -> PostgreSQL:
    return PostgreSQL(postgres_url)


@pytest.fixture(scope="module")
def postgresql_tls(postgres: LocalPostgres, pair: tuple[Path, Path]) -> PostgreSQL:
    """The same server, which takes TLS from now on."""
    at = postgres.home / "data"
    for file in pair:
        shutil.copy(file, at / file.name)
        shutil.chown(at / file.name, at.owner(), at.group())
        (at / file.name).chmod(0o600)
    engine = create_engine(postgres.url.replace("postgresql:", "postgresql+psycopg2:"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ALTER SYSTEM SET ssl = on"))
        connection.execute(text("SELECT pg_reload_conf()"))
    return PostgreSQL(postgres.url, pair[0])


@pytest.fixture(scope="module")
def mlflow_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """An MLflow server on SQLite that also keeps the files."""
    folder, [port] = tmp_path_factory.mktemp("mlflow"), ports.free()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{folder}/mlflow.db",
        "--artifacts-destination",
        str(folder / "files"),
    ]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            end = time.monotonic() + 240
            while True:
                with suppress(httpx.HTTPError):
                    if httpx.get(f"http://127.0.0.1:{port}/health").is_success:
                        break
                assert server.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < end, "it does not answer"
                time.sleep(0.5)
            yield port
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


@pytest.fixture(scope="module")
def mlflow(mlflow_port: int, tmp_path_factory: pytest.TempPathFactory) -> MLflow:
    return MLflow(mlflow_port, tmp_path_factory.mktemp("mlflow-files"))


@pytest.fixture(scope="module")
def mlflow_tls(
    mlflow_port: int, pair: tuple[Path, Path], patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MLflow]:
    patch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", str(pair[0]))
    with Ingress(mlflow_port, *pair) as ingress:
        yield MLflow(ingress.port, tmp_path_factory.mktemp("mlflow-tls"), pair[0], mlflow_port)


@pytest.fixture(scope="module")
def prefect_port(patch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
    patch.setattr("infra.local.prefect.PATIENCE", 300)
    with LocalPrefect() as server:
        server.wait()
        yield server.port


@pytest.fixture(scope="module")
def prefect(prefect_port: int, patch: pytest.MonkeyPatch) -> Prefect:
    return Prefect(prefect_port, patch)


@pytest.fixture(scope="module")
def prefect_tls(prefect_port: int, pair: tuple[Path, Path], patch: pytest.MonkeyPatch) -> Iterator[Prefect]:
    patch.setenv("PREFECT_API_SSL_CERT_FILE", str(pair[0]))
    with Ingress(prefect_port, *pair) as ingress:
        yield Prefect(ingress.port, patch, pair[0], prefect_port)


@pytest.fixture(scope="module", autouse=True)
def table(request: pytest.FixtureRequest) -> Iterator[None]:
    """What came of all cases, printed at the end."""
    yield
    terminal = request.config.get_terminal_writer()
    terminal.line(f"\n{'service':<16}{'fault':<15}{'share':>6}{'tries':>7}{'identical':>11}{'coded':>7}{'wrong':>7}")
    for (service, fault, share), counts in tally.items():
        counted = f"{counts.total():>7}{counts['identical']:>11}{counts['coded']:>7}{counts['wrong']:>7}"
        terminal.line(f"{service:<16}{fault:<15}{share:>6.0%}{counted}")


PLAIN = [(name, fault) for name in ("postgresql", "mlflow", "prefect") for fault in FAULTS if fault != FLIPPED]
CASES = [*[("s3", fault) for fault in FAULTS], *PLAIN, *[(f"{name}_tls", FLIPPED) for name in dict(PLAIN)]]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("share", SHARES, ids=lambda share: f"{share:.0%}")
@pytest.mark.parametrize(("name", "fault"), CASES)
def test_a_bad_wire_changes_no_outcome(name: str, fault: str, share: float, request: pytest.FixtureRequest) -> None:
    service: Service = request.getfixturevalue(name)
    counts = tally[name, fault, share] = Counter()
    undisturbed = expected(service)
    for seed in range(TRIES if share else 1):
        place = f"{name}-{fault}-{share:.0%}-{seed}".replace(" ", "-").replace("%", "")
        counts["wrong"] += 1  # unless it turns out otherwise
        with Proxy("127.0.0.1", service.port, share, seed) as wire:
            FAULTS[fault](wire)
            came = outcome(lambda wire=wire, place=place: service.do(wire.port, place))
            assert share or not isinstance(came, Coded)
            wire.heal()
            whole = service.do(wire.port, place) if isinstance(came, Coded) else came
        assert (whole, service.left(place)) == undisturbed
        counts["wrong"] -= 1
        counts["coded" if isinstance(came, Coded) else "identical"] += 1


@cache
def expected(service: Service) -> tuple[Any, Any]:
    """What comes out, and what is left, when nothing happens."""
    return service.do(service.port, "undisturbed"), service.left("undisturbed")


def test_two_who_decide_over_bad_wires_make_one_chain_of_decisions(postgresql: PostgreSQL) -> None:
    """Each repeats until it is told that it was done: nothing is decided twice, and nobody decides on an old state."""
    told: list[Decision] = []

    def decide(who: int) -> None:
        with Proxy("127.0.0.1", postgresql.port, 0.03, who) as wire:
            (wire.drop_response if who else wire.refuse)()
            ledger = postgresql.ledger(wire.port)
            for number in range(3):
                while True:
                    with suppress(Coded), ledger.lease("chain") as lease:
                        given: dict[str, Any] = {"version": 10 * who + number, "kind": "promoted", "body": {}}
                        told.append(ledger.decide(lease, model="chain", key=f"{who}-{number}", **given))
                        break

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(decide, range(2)))
    chain = postgresql.ledger(postgresql.port).decisions("chain")
    assert sorted(row.key for row in chain) == [f"{who}-{number}" for who in range(2) for number in range(3)]
    assert [row.previous for row in chain] == [None, *(row.version for row in chain[:-1])]
    assert [row.epoch for row in chain] == sorted(row.epoch for row in chain)
    assert {row.id: row for row in told} == {row.id: row for row in chain}


def test_a_wire_that_swallows_everything_is_given_up_in_time(
    s3: S3, postgresql: PostgreSQL, mlflow: MLflow, prefect: Prefect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all the patience that clients have; MLflow as if it fell silent after its first answer."""
    monkeypatch.setattr(Registry, "_knock", lambda registry: None)

    def swallowed(service: Service) -> tuple[Any, float]:
        with Proxy("127.0.0.1", service.port) as wire:
            wire.blackhole()
            begun = time.monotonic()
            return outcome(lambda: service.do(wire.port, "swallowed")), time.monotonic() - begun

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(swallowed, [s3, postgresql, mlflow, prefect]))
    print(*(f"{came.code} after {seconds:.0f} s" for came, seconds in found), sep="\n")
    codes = ["E-S3-UNAVAILABLE", "E-SQL-UNAVAILABLE", "E-MLFLOW-UNAVAILABLE", "E-PREFECT-DOWN"]
    assert [came.code for came, _ in found] == codes


def test_a_whole_run_over_bad_wires_says_why_it_ended_and_then_ends_as_undisturbed(
    s3: S3, postgres_url: str, mlflow_port: int, prefect_port: int, tmp_path: Path
) -> None:
    """One message in ten is struck, of the ledger's one in fifty, until the run has ended well or three times."""
    (tmp_path / "messages.jsonl").write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[:300]))
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    with ExitStack() as wires:

        def wire(port: int, fault: str, share: float = 0.1) -> Proxy:
            proxy = wires.enter_context(Proxy("127.0.0.1", port, share))
            FAULTS[fault](proxy)
            return proxy

        database = make_url(postgres_url)
        assert database.port
        bad = [wire(s3.port, FLIPPED), wire(database.port, "lost response", 0.02)]
        bad += [wire(mlflow_port, "reset"), wire(prefect_port, "refuse")]
        places = {
            "VERNAL_STORE": "s3://store/whole",
            "VERNAL_S3_ENDPOINT": f"http://{bad[0].address}",
            "VERNAL_LEDGER": database.set(port=bad[1].port).render_as_string(hide_password=False),
            "VERNAL_MLFLOW": f"http://{bad[2].address}",
            "PREFECT_API_URL": f"http://{bad[3].address}/api",
        }
        ends = [run(tmp_path, "disturbed", places)]
        while ends[-1].returncode and len(ends) < 3:
            ends.append(run(tmp_path, "disturbed", places))
        struck = [each.wounds for each in bad]
        for each in bad:
            each.heal()
        last = run(tmp_path, "disturbed", places)
    print([end.returncode for end in ends], [end.stderr.splitlines()[-1:] for end in ends], struck)
    assert {end.returncode for end in ends} <= {0, 2, 4}
    assert all(end.stderr.splitlines()[-1].startswith("E-") for end in ends if end.returncode)
    assert [end.stderr[-3000:] for end in ends if "Traceback" in end.stderr] == []
    undisturbed = run(tmp_path, "undisturbed", {})
    assert (last.returncode, undisturbed.returncode) == (0, 0), last.stderr + undisturbed.stderr
    assert digests(last) == digests(undisturbed)
    assert json.loads(last.stdout)["version"] == 1
    ledger = Ledger(postgres_url)
    assert [(row.version, row.kind) for row in ledger.decisions("wired")] == [(1, "promoted")]
    assert Registry(f"http://127.0.0.1:{mlflow_port}", tmp_path).aliases("wired")["champion"] == 1


def run(folder: Path, home: str, places: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """`vernal run` of the recipe in a folder."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("VERNAL_", "PREFECT_"))}
    environment = {**outside, "VERNAL_HOME": str(folder / home), "OMP_NUM_THREADS": "1", **places}
    command = [sys.executable, "-m", "flows", "run", str(folder / "recipe.yaml"), "--json"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)


def digests(end: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The outputs of all stages."""
    return {verb: stage["digest"] for verb, stage in json.loads(end.stdout)["stages"].items()}


def outcome(do: Callable[[], Any]) -> Any:
    """What comes of it, or the coded error with which it ends; any other error, or none in time, is ours."""
    came: list[Any] = []

    def work() -> None:
        try:
            came.append(do())
        except BaseException as error:
            came.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert came, f"nothing came of it in {DEADLINE:.0f} s"
    if isinstance(came[0], BaseException) and not isinstance(came[0], Coded):
        raise came[0]
    return came[0]
