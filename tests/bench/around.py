"""What a run costs around its training: imports, Prefect, MLflow, the store.

    python -m tests.bench around

`vernal run` on the quickstart's recipe, cut to a few steps so that nothing can hide behind the training, once with a
Prefect server of its own and once with one that stands. Homes and databases are warm: a run with another seed has been
there before. So the data's stages are reused and everything from the training on is made anew, as it is when a schedule
tries again on the same data; making the data's stages costs in proportion to the data, which is measured elsewhere.

Around is the whole wall time, from the call of the interpreter until it is gone, less the CPU time of the one thread
that takes the steps, validates, and sits both exams: if MLflow's import or a checkpoint holds these up, that counts. A
timeline is kept by wrapping a few functions of the command, which runs in a process of its own.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import wraps
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

from infra.local.prefect import LocalPrefect
from infra.settings import quiet_prefect
from tests.bench.results import Section

ROOT = Path(__file__).parents[2]
RUNS = 5
CUT = ("train.epochs=1", "train.max_rows=128", "gate.floors={}")  # four steps
DONE, REFUSED = 0, 3
TRAINING = ("the steps and their validation", "both exams")  # what the rest is around

Seconds = dict[str, float]


def sections(steps: int | None) -> Iterator[Section]:
    """One table; `steps` are runs here."""
    quiet_prefect()
    found = {"its own server": measured(steps or RUNS, standing=False)}
    found["a standing server"] = measured(steps or RUNS, standing=True)
    heads = ["seconds of wall time", *(f"with {name}" for name in found)]
    rows = []
    for part in dict.fromkeys(part for taken in found.values() for part in taken[0]):
        rows.append([part, *(middle([each.get(part, 0.0) for each in taken]) for taken in found.values())])
    text = (
        f"`vernal run` on the quickstart's recipe, {' '.join(CUT)}, one thread, warm homes and databases; medians of "
        f"{steps or RUNS} runs, the least and the most in brackets."
    )
    yield Section("What a run costs around its training", text, heads, rows)


def middle(values: list[float]) -> str:
    """The median, with the least and the most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def measured(runs: int, standing: bool) -> list[Seconds]:
    """What each of several runs in one home took, part by part; the first, which makes the databases, is left out."""
    with TemporaryDirectory() as home, mock.patch.dict(os.environ, at(Path(home))):
        os.environ.pop("PREFECT_API_URL", None)
        with LocalPrefect() if standing else nullcontext() as server:
            if server:
                os.environ["PREFECT_API_URL"] = server.wait()
            return [taken(seed) for seed in range(runs + 1)][1:]


def at(home: Path) -> dict[str, str]:
    """An environment in which nothing of this machine's homes is found."""
    return {"VERNAL_HOME": str(home / "vernal"), "PREFECT_HOME": str(home / "prefect"), "VERNAL_DEVICE": "cpu"}


def taken(seed: int) -> Seconds:
    """One run in a process of its own: wall time of each part, around, and CPU time with that of its server."""
    changes = [part for dial in (*CUT, f"train.seed={seed}") for part in ("--set", dial)]
    command = [sys.executable, "-m", "tests.bench.around", "run", "flows/recipes/quickstart.yaml", *changes, "--json"]
    before, began = cpu(), time.time()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ended = time.time()
    if done.returncode not in (DONE, REFUSED):
        raise RuntimeError(f"the run ended with {done.returncode}: {done.stderr[-2000:]}")
    told = json.loads(done.stderr.splitlines()[-1])
    parts: Seconds = {"interpreter, until the command begins": told["began"] - began, **told["wall"]}
    parts["the interpreter's end"] = ended - told["ended"]
    whole, computing = ended - began, sum(told["computing"][part] for part in TRAINING)
    sums = {"the whole run": whole, "of which computing in training and exams": computing}
    return {**parts, **sums, "**around**": whole - computing, "CPU time, its own server's included": cpu() - before}


def cpu() -> float:
    """CPU seconds of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class Timeline:
    """Wall seconds, and CPU seconds of the thread, by part; an inner part's are not the outer one's."""

    def __init__(self) -> None:
        self.wall: Counter[str] = Counter()
        self.computing: Counter[str] = Counter()
        self.within: list[str] = []
        self.since = time.time(), time.thread_time()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done inside belongs to this part."""
        self._settle()
        self.within.append(name)
        try:
            yield
        finally:
            self._settle()
            self.within.pop()

    def wrapped(self, function: Callable[..., Any], name: str | Callable[..., str]) -> Callable[..., Any]:
        """`function`, each of whose calls is a part."""

        @wraps(function)
        def called(*given: Any, **named: Any) -> Any:
            with self.part(name if isinstance(name, str) else name(*given)):
                return function(*given, **named)

        return called

    def _settle(self) -> None:
        before, self.since = self.since, (time.time(), time.thread_time())
        if self.within:
            self.wall[self.within[-1]] += self.since[0] - before[0]
            self.computing[self.within[-1]] += self.since[1] - before[1]


def command() -> int:
    """The command of this process with a timeline, which is the last line of its standard error."""
    began, line = time.time(), Timeline()
    with line.part("plan and outcome"):
        from flows import commands
        from flows.__main__ import main
        from tasks import stages

        imports = commands._nothing_to_collect

        def imported() -> AbstractContextManager[None]:
            return line.part("imports of Prefect, torch and transformers")

        @contextmanager
        def both() -> Iterator[None]:
            with imports(), imported():
                yield
            inner(line)

        commands._retrain = line.wrapped(commands._retrain, "Prefect: flow, tasks, artifacts, logs")
        commands._nothing_to_collect = both
        LocalPrefect.wait = line.wrapped(LocalPrefect.wait, "waiting for its own server")  # type: ignore[method-assign]
        LocalPrefect.__exit__ = line.wrapped(LocalPrefect.__exit__, "its own server's end")  # type: ignore[method-assign]
        stages.once = line.wrapped(stages.once, lambda key, _: f"stage {key.verb}")
        code = main(sys.argv[1:])
    told = {"began": began, "ended": time.time(), "wall": line.wall, "computing": line.computing}
    print(json.dumps(told), file=sys.stderr)
    return code


def inner(line: Timeline) -> None:
    """Wraps what is the training itself, once it has been imported."""
    from tasks.model.exam import Exam
    from tasks.model.session import Session

    Session.run = line.wrapped(Session.run, TRAINING[0])  # type: ignore[method-assign]
    Exam.sat_by = line.wrapped(Exam.sat_by, TRAINING[1])  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(command())
