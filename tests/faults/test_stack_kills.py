"""Every part of the stack is killed in the middle of a training and stays away for half a minute.

The run ends by itself, or when `reconcile` takes it up, started by the automation or else by its clock: with the
version and the weights of a run that nothing happened to, made once, and nothing of it is left running.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from flows.deployments import ZOMBIE
from infra.ledger import Ledger
from infra.local import processes, supervisor
from infra.local.parts import NAMES
from infra.local.stack import Stack
from infra.storage import S3Bucket
from tests.services.conftest import run_on, stack_with
from tests.services.scheduled import ENDS, Prefect

pytestmark = pytest.mark.faults

SAMPLE = Path(__file__).parents[2] / "flows" / "recipes" / "customer_messages.jsonl"
AWAY = 30.0  # seconds until a part is started again
PATIENCE = 900.0  # seconds for a run and its mending on a busy machine
STRANDED = 75.0  # seconds that the automation has after a crash; then comes `vernal reconcile`, as by its clock

RECIPE = """
name: {name}
task: text-classification
data: {{source: customer_messages.jsonl, label: intent}}
tokens: {{length: 64, tokenizer: {{train: wordpiece, vocabulary: 2000}}}}
model: {{base: {{architecture: encoder, num_layers: 2, d_model: 64, num_heads: 4}}}}
train: {{epochs: 12, batch: 32, learning_rate: 1e-3, early_stopping: 0, seed: {seed}}}
gate: {{floors: {{}}}}
"""

T = TypeVar("T")

VICTIMS = ("run", "worker", "prefect", "mlflow", "s3", "postgres")


@dataclass
class Death:
    """A part that died, and what became of the run."""

    victim: str
    recipe: Path
    run: dict[str, Any]  # of the deployment, at its end, in Prefect's words
    resumed: int  # times that `vernal reconcile` took it up
    saved: int  # step of the newest checkpoint when the part died
    seconds: float  # from the kill to the end of the run

    @property
    def name(self) -> str:
        return self.recipe.stem

    @property
    def line(self) -> str:
        by = "reconcile" if self.resumed else "itself" if self.run["run_count"] == 1 else "automation"
        return f"{self.victim:<10}{self.saved:>12}{self.run['run_count']:>10}  {by:<12}{self.seconds:>7.0f} s"


@pytest.fixture(scope="module")
def stack(pytestconfig: pytest.Config) -> Iterator[Stack]:
    """A stack whose runs save a checkpoint every second."""
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL")}
    with stack_with(pytestconfig, VERNAL_CHECKPOINT_SECONDS="1", **threads) as stack:
        yield stack


@pytest.fixture(scope="module")
def prefect(stack: Stack) -> Prefect:
    return Prefect(stack)


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One for each death: of different seeds, so that none finds the work of another."""
    folder = tmp_path_factory.mktemp("deaths")
    (folder / SAMPLE.name).write_bytes(SAMPLE.read_bytes())
    found = {victim: folder / f"death-of-{victim}.yaml" for victim in VICTIMS}
    for seed, path in enumerate(found.values()):
        path.write_text(RECIPE.format(name=path.stem, seed=seed))
    return found


@pytest.fixture(scope="module")
def undisturbed(recipes: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[Any]]]:
    """What comes of each recipe in a home of its own, where nothing happens; worked on while the others wait."""

    def told(recipe: Path) -> Any:
        done = run_on(home, "run", str(recipe), "--json", OMP_NUM_THREADS="1")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    home = tmp_path_factory.mktemp("undisturbed")
    with ThreadPoolExecutor(1) as pool:
        yield {victim: pool.submit(told, recipe) for victim, recipe in recipes.items()}
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def deaths(request: pytest.FixtureRequest) -> Iterator[list[Death]]:
    """All that happened, printed as a table at the end."""
    found = list[Death]()
    yield found
    terminal = request.config.get_terminal_writer()
    terminal.line(f"\n{'killed':<10}{'at step':>12}{'attempts':>10}  {'taken up by':<12}{'to its end':>9}")
    for death in found:
        terminal.line(death.line)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_run_outlives_the_death_of(
    victim: str,
    stack: Stack,
    prefect: Prefect,
    recipes: dict[str, Path],
    undisturbed: dict[str, Future[Any]],
    deaths: list[Death],
) -> None:
    death = die(victim, stack, prefect, recipes[victim])
    deaths.append(death)
    assert (death.run["state_type"], death.run["state_name"]) == ("COMPLETED", "Promoted"), death
    assert victim != "run" or death.run["run_count"] == 2, "it was taken up once"
    again = run_on(stack.home.parent, "run", str(death.recipe), "--json")
    assert again.returncode == 0, again.stderr
    told, expected = json.loads(again.stdout), undisturbed[victim].result()
    assert all(stage["reused"] for stage in told["stages"].values())
    assert digests(told) == digests(expected)
    assert (told["version"], told["champion"]) == (expected["version"], expected["champion"]) == (1, 1)
    assert [run["id"] for run in prefect.runs(f"retrain/{death.name}")] == [death.run["id"]]
    ledger = Ledger(stack.environment["VERNAL_LEDGER"])
    assert [(row.version, row.kind) for row in ledger.decisions(death.name)] == [(1, "promoted")]
    marks = until(lambda: ledger.rollouts(death.name), "others heard of it")
    assert [mark.version for mark in marks] == [1]
    assert versions(stack, death.name) == ["1"]
    end = time.monotonic() + ZOMBIE + STRANDED
    while left := running(stack, prefect, death):
        assert time.monotonic() < end, f"still running: {left}"
        time.sleep(5)


def die(victim: str, stack: Stack, prefect: Prefect, recipe: Path) -> Death:
    """A run of the recipe, in the middle of which the victim is killed; it is started again when it was `AWAY`."""
    scheduled = run_on(stack.home.parent, "schedule", str(recipe), "--json")
    assert scheduled.returncode == 0, scheduled.stderr
    before = checkpoints(stack)
    deployment = prefect.ask("GET", f"deployments/name/retrain/{recipe.stem}")
    run = prefect.ask("POST", f"deployments/{deployment['id']}/create_flow_run", state={"type": "SCHEDULED"})
    saved = max(int(Path(name).stem) for name in until(lambda: checkpoints(stack) - before, "it trains"))
    begun = time.monotonic()
    if victim == "run":
        kill(processes.marked(f"PREFECT__FLOW_RUN_ID={run['id']}"))
    else:
        kill_a_part(stack, victim)
    resumed = 0
    crashed = 0.0

    def ended() -> bool:
        nonlocal run, resumed, crashed
        with suppress(httpx.HTTPError):
            run = prefect.ask("GET", f"flow_runs/{run['id']}")
        if run["state_type"] != "CRASHED":
            crashed = 0.0
            return run["state_type"] in ENDS
        crashed = crashed or time.monotonic()
        if time.monotonic() > crashed + STRANDED:
            done = run_on(stack.home.parent, "reconcile", "--json")
            assert done.returncode == 0, done.stderr
            resumed += 1
            crashed = time.monotonic()
        return False

    until(ended, "it ended")
    return Death(victim, recipe, run, resumed, saved, time.monotonic() - begun)


def kill_a_part(stack: Stack, name: str) -> None:
    """All its processes at once, while who would start them again is made to wait."""
    assert name in NAMES
    watcher = supervisor.watching(stack.home / "supervisor")
    os.kill(watcher, signal.SIGSTOP)
    try:
        (part,) = [part for part in stack.status() if part["name"] == name]
        assert part["pids"]
        kill(part["pids"] if name == "worker" else processes.marked(str(stack.home / name)))
        time.sleep(AWAY)
    finally:
        os.kill(watcher, signal.SIGCONT)


def kill(pids: list[int]) -> None:
    assert pids
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def checkpoints(stack: Stack) -> set[str]:
    """Those in the stack's store, of all runs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, stack.environment[name])
        names = S3Bucket("vernal", "", stack.environment["VERNAL_S3_ENDPOINT"]).names("store/checkpoints")
        return {name for name in names if "/manifests/" in name}


def digests(told: dict[str, Any]) -> dict[str, str]:
    """The outputs of all stages."""
    return {verb: stage["digest"] for verb, stage in told["stages"].items()}


def versions(stack: Stack, name: str) -> list[str]:
    """Versions of a model in MLflow."""
    return [each["version"] for each in mlflow(stack, "GET", "model-versions/search", filter=f"name = '{name}'")]


def running(stack: Stack, prefect: Prefect, death: Death) -> list[str]:
    """What says that it still works on the run: in Prefect, in MLflow, on this machine."""
    of_run = {"flow_runs": {"id": {"any_": [death.run["id"]]}}}
    tasks = prefect.ask("POST", "task_runs/filter", **of_run)
    found = [f"task {task['name']}" for task in tasks if task["state_type"] not in ENDS]
    home = mlflow(stack, "GET", "experiments/get-by-name", experiment_name=death.name)["experiment_id"]
    runs = mlflow(stack, "POST", "runs/search", experiment_ids=[home])
    found += [f"MLflow run {run['info']['run_id']}" for run in runs if run["info"]["status"] == "RUNNING"]
    found += [f"process {pid}" for pid in processes.marked(f"PREFECT__FLOW_RUN_ID={death.run['id']}")]
    return found


def mlflow(stack: Stack, method: str, question: str, **given: Any) -> Any:
    """MLflow's answer, out of the one field that it stands in."""
    url = f"{stack.environment['VERNAL_MLFLOW']}/api/2.0/mlflow/{question}"
    how: dict[str, Any] = {"params": given} if method == "GET" else {"json": given}
    answer = httpx.request(method, url, **how, timeout=60).raise_for_status().json()
    return next((value for key, value in answer.items() if key != "next_page_token"), [])


def until(true: Callable[[], T], what: str) -> T:
    end = time.monotonic() + PATIENCE
    while not (found := true()):
        assert time.monotonic() < end, f"not in {PATIENCE:.0f} s: {what}"
        time.sleep(0.5)
    return found
