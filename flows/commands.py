"""The commands: each does one thing, prints it, and returns an exit code."""

import argparse
import gc
import json
import logging
import signal
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from flows import outcome, plan
from infra.local.prefect import LocalPrefect
from infra.settings import prefect_url, quiet_prefect
from tasks import recipe
from tasks.errors import BadInput, Interrupted
from tasks.records import Verdict

REFUSED = 3


def run(given: argparse.Namespace) -> int:
    """The whole way; nothing heavy is imported when there is nothing left to do."""
    what = recipe.load(given.recipe, given.set)
    beside = given.recipe.absolute().parent
    found = plan.walk(what, beside)
    verdict = found.verdict
    if verdict is None:
        verdict = _retrain(what, beside)
        found = plan.walk(what, beside)
    came = outcome.of(what, found, verdict)
    print(outcome.as_json(came) if given.json else outcome.as_text(what, came))
    return 0 if came["verdict"]["promoted"] else REFUSED


def _retrain(what: recipe.Recipe, beside: Path) -> Verdict:
    _tell()
    with _stoppable(), ExitStack() as stack:
        server = None if prefect_url() else stack.enter_context(LocalPrefect())
        with _nothing_to_collect():
            from prefect.logging.handlers import APILogHandler
            from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

            from flows.retrain import retrain
        if server and not PREFECT_API_URL.value():  # a profile may name one as well
            own = {PREFECT_API_URL: server.wait(), PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
            stack.enter_context(temporary_settings(own))  # it ends with the run, so nobody would miss a heartbeat
            stack.callback(APILogHandler().flush)  # while there is a server to take the last lines
        return retrain(what, str(beside))


def _tell() -> None:
    """Our log goes to the terminal, Prefect's stays off it; before Prefect is imported."""
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("vernal").setLevel(logging.INFO)
    for pages in ("prefect.flow_runs", "prefect.task_runs"):
        logging.getLogger(pages).propagate = False  # tracebacks are for Prefect's pages, a person gets our one line
    quiet_prefect()


@contextmanager
def _nothing_to_collect() -> Iterator[None]:
    """For imports: what they make stays, and looking through it for garbage takes a second, now and in the training."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


@contextmanager
def _stoppable() -> Iterator[None]:
    """SIGTERM unwinds the block and becomes E-INTERRUPTED; Prefect notes a crash first, then sends the signal again."""

    def stop(_number: int, _frame: object) -> None:
        raise Interrupted("E-INTERRUPTED", "SIGTERM; finished stages are kept, the same command goes on from them")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def check(given: argparse.Namespace) -> int:
    """What would run and what would be reused, and the memory that it takes."""
    from tasks.model import forecast

    what = recipe.load(given.recipe, given.set)
    found = plan.walk(what, given.recipe.absolute().parent)
    expected = forecast.of(what, found.base, found.parts, found.records)
    if given.json:
        stages = {verb: {"reused": verb in found.records} for verb in plan.VERBS}
        memory = expected and {"bytes": expected.total, **asdict(expected)}
        told = {"run_key": found.run_key, "recipe": what.digest, "stages": stages, "memory": memory}
        print(json.dumps(told, indent=1))
        return 0
    print(f"{what.name}: {what.task}, recipe {what.digest[7:19]}, run {found.run_key[7:19]}")
    for verb in plan.VERBS:
        record = found.records.get(verb)
        print(f"  {verb:<10} {'reused  ' + record.digest[7:19] if record else 'would run'}")
    print(expected or "memory: not known (the base is not loaded yet, or a module of your own)")
    return 0


def advise(given: argparse.Namespace) -> int:
    """A table of bases, the best first."""
    from flows import candidates

    chosen = candidates.of(given.recipe, given.set, given.base)
    _tell()
    with _nothing_to_collect():
        from flows import advise as table
    found = table.advise(chosen, given.recipe.absolute().parent)
    print(json.dumps(table.as_json(found), indent=1) if given.json else table.as_text(found, given.recipe))
    if all(each.refused for each in found):
        raise BadInput("E-ADVISE-NONE", f"none of {len(found)} bases can be taken, for the reasons above; name another")
    return 0


def explain(given: argparse.Namespace) -> int:
    """Lineage and decisions on one page."""
    from flows import explain as page

    found = page.explain(given.model)
    print(json.dumps(found, indent=1) if given.json else page.as_text(found))
    return 0


def promote(given: argparse.Namespace) -> int:
    """A registered version through the gate, by hand."""
    from tasks.release import promote as gate

    verdict = gate.by_hand(given.model, given.version)
    if given.json:
        print(verdict.model_dump_json(indent=1))
    else:
        outcome = "is live" if verdict.promoted else "waits" if verdict.pending else "was refused; the champion stays"
        print(f"{verdict.name} version {verdict.version} {outcome}: {'; '.join(verdict.reasons)}")
    return 0 if verdict.promoted else REFUSED


def rollback(given: argparse.Namespace) -> int:
    """The version before becomes the champion again."""
    from tasks.release import aliases

    before, now = aliases.rollback(given.model)
    told = {"name": given.model, "from": before, "champion": now}
    print(json.dumps(told) if given.json else f"{given.model}: version {now} is live again, version {before} is not")
    return 0


def approve(given: argparse.Namespace) -> int:
    """A person's yes to a version that waits for it."""
    return _settled(given, approve=True)


def refuse(given: argparse.Namespace) -> int:
    """A person's no."""
    return _settled(given, approve=False)


def _settled(given: argparse.Namespace, *, approve: bool) -> int:
    from flows import events
    from tasks.release import approval

    decision = approval.settle(given.model, given.version, approve=approve)
    events.tell(decision)
    outcome = "is live" if decision.kind == "promoted" else "was refused; the champion stays"
    told = {"name": given.model, "version": given.version, "kind": decision.kind, "reasons": decision.body["reasons"]}
    line = f"{given.model} version {given.version} {outcome}: {'; '.join(told['reasons'])}"
    print(json.dumps(told, indent=1) if given.json else line)
    return 0 if decision.kind == "promoted" or not approve else REFUSED


def reconcile(given: argparse.Namespace) -> int:
    """What Prefect and MLflow show, brought back to what the ledger says."""
    _tell()
    with _nothing_to_collect():
        from flows import reconcile as mending
    done = list(mending.mend())
    if given.json:
        print(json.dumps([each._asdict() for each in done], indent=1))
    else:
        print("\n".join(f"  {each.what:<18} {each.which:<40} {each.done}" for each in done) or "  nothing to mend")
    return 0


def doctor(given: argparse.Namespace) -> int:
    """Every check with what it found; 2 if one of them fails, 4 if that one is a service."""
    from flows import doctor as checks

    found = checks.examine()
    print(json.dumps(found, indent=1) if given.json else checks.as_text(found))
    return max((each["exit_code"] for each in found), default=0)
