"""Is this environment fit? Each check tells what it found, and what to do if that will not do."""

import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

from packaging.version import Version

from flows import orchestrator as orchestration
from infra.exposure import in_private_network, open_to_others
from infra.ledger import Ledger
from infra.settings import settings
from infra.storage import S3Bucket
from infra.storage.behaviour import look
from tasks import stages
from tasks.errors import BadInput, Coded
from tasks.model.curves import registry

LEAST = {"torch": "2.13", "transformers": "5.3", "mlflow": "3.17", "prefect": "3.8.8", "safetensors": "0.6"}
BELOW = {"fastapi": "0.151"}
FREE = 2 << 30  # bytes: a base model and three of its checkpoints


def examine() -> list[dict[str, Any]]:
    """All checks, in order: `check`, `found`, `exit_code` (0: fit)."""
    checks: list[Callable[[], str]] = [
        libraries,
        disk,
        device,
        store,
        behaviour,
        ledger,
        tracking,
        orchestrator,
        exposure,
        telemetry,
    ]
    return [_result(check) for check in checks]


def libraries() -> str:
    """Versions below or above which something is known to break."""
    found = {name: _version(name) for name in (*LEAST, *BELOW)}
    old = [f"{name} {found[name]} < {least}" for name, least in LEAST.items() if found[name] < Version(least)]
    new = [f"{name} {found[name]} >= {limit}" for name, limit in BELOW.items() if found[name] >= Version(limit)]
    if old or new:
        raise BadInput("E-VERSIONS", f"{', '.join(old + new)}; install from requirements.lock")
    return ", ".join(f"{name} {number}" for name, number in found.items())


def disk() -> str:
    """Room for checkpoints where work is done."""
    home = settings().home.absolute()
    there = next(each for each in (home, *home.parents) if each.exists())
    free = shutil.disk_usage(there).free
    if free < FREE:
        message = f"{free / 1e9:.1f} GB free at {there}, wanted {FREE / 1e9:.1f}; make room or move VERNAL_HOME"
        raise BadInput("E-DISK", message)
    return f"{free / 1e9:.0f} GB free at {there}"


def device() -> str:
    """Where training would run, and in which arithmetic."""
    from tasks.model import hardware
    from tasks.recipe import Train

    where = hardware.chosen()
    return f"{where}, {hardware.precision(Train(), where)}"


def store() -> str:
    """The artifact store keeps a small object and gives it back."""
    there = stages.artifacts().within("doctor")
    stored = there.put(b"vernal doctor")
    there.read(stored.digest)
    there.delete(stored.digest)
    return there.uri


def behaviour() -> str:
    """What the S3 server behind the store really does; see `infra.storage.behaviour`."""
    bucket = stages.artifacts().bucket
    if not isinstance(bucket, S3Bucket):
        return "a folder, no server"
    found = look(bucket)
    if found.broken:
        where = bucket.endpoint or "Amazon S3"
        message = f"{where}: {'; '.join([*found.broken, *found.told])}; mend that, or take another server or version"
        raise BadInput("E-S3-UNFIT", message)
    return "; ".join(found.told)


def ledger() -> str:
    """The ledger answers."""
    there = Ledger(settings().ledger_url)
    with there.lease("doctor", patience=15):
        return f"{len(there.models())} models decided about"


def tracking() -> str:
    """The registry answers."""
    registry().aliases("doctor")
    return settings().mlflow_shown


def orchestrator() -> str:
    """Prefect's server, if one is configured; it may be newer than we are, and not older."""
    url = _prefect()
    if not url:
        return "no server configured: each run starts one of its own"
    theirs, ours = Version(_told("/admin/version")), _version("prefect")
    if theirs < ours:
        message = f"{url} is Prefect {theirs}, here is {ours}; bring the server to {ours} first"
        raise BadInput("E-VERSIONS", message)
    return f"{url}, Prefect {theirs}"


def exposure() -> str:
    """Prefect's and MLflow's servers are not open to whoever comes; open in a private network alone, it is told."""
    servers = {_prefect(): "/admin/version"}
    if settings().mlflow_uri.startswith("http"):
        servers[settings().mlflow_uri] = "/api/2.0/mlflow/experiments/search?max_results=1"
    found = {url: open_to_others(url, urlsplit(url).path.rstrip("/") + path) for url, path in servers.items() if url}
    inside = [url for url, hosts in found.items() if hosts and in_private_network(url)]
    places = [
        f"{orchestration.shown(url)} answers anybody at {', '.join(hosts)}"
        for url, hosts in found.items()
        if hosts and url not in inside
    ]
    if places:
        remedy = "let it listen on 127.0.0.1, or ask for a login (PREFECT_SERVER_API_AUTH_STRING, MLflow's basic-auth)"
        raise BadInput("E-EXPOSED", f"{'; '.join(places)}; {remedy}")
    if inside:
        named = " and ".join(map(orchestration.shown, inside))
        return f"{len(found)} servers; whoever is in the private network of {named} needs no login there"
    return f"{len(found)} servers, none open to others" if found else "no servers"


def telemetry() -> str:
    """Nothing is told to the makers of our libraries."""
    url = _prefect()
    if url and _told("/admin/settings")["server"]["analytics_enabled"]:
        remedy = "start it with PREFECT_SERVER_ANALYTICS_ENABLED=false"
        raise BadInput("E-TELEMETRY", f"Prefect's server at {url} reports to its makers; {remedy}")
    return "off"


def _prefect() -> str:
    """Its API; once Prefect is imported a profile may name it as well."""
    import prefect.settings  # noqa: F401

    return orchestration.there()


def _told(path: str) -> Any:
    """What Prefect's server says of itself."""
    with orchestration.api() as client:
        where: Any = path
        return client.request("GET", where).json()


def as_text(found: list[dict[str, Any]]) -> str:
    """A line for each check."""
    marks = ["FAIL" if each["exit_code"] else "fit " for each in found]
    return "\n".join(f"  {mark}  {each['check']:<12} {each['found']}" for mark, each in zip(marks, found, strict=True))


def _result(check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"check": check.__name__, "found": check(), "exit_code": 0}
    except Coded as error:
        failure = error
    except Exception as error:  # a server may answer anything, and the other checks are wanted all the more
        failure = _unforeseen(error)
    return {"check": check.__name__, "found": str(failure), "exit_code": failure.exit_code}


def _unforeseen(error: Exception) -> Coded:
    """What a check met and does not know, in one line without a password."""
    found = orchestration.shown(f"{type(error).__name__} {error}")
    remedy = "mend what it names, and see that each address in the settings is that of the server it is meant for"
    return BadInput("E-DOCTOR", f"{found:.300}: this check cannot tell; {remedy}")


def _version(name: str) -> Version:
    try:
        return Version(version(name))
    except PackageNotFoundError:
        return Version("0")
