"""The commands: each does one thing, prints it, and returns an exit code."""

import argparse
import gc
import json
import logging
import signal
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import cast

from flows import events, outcome, plan
from infra.local.prefect import LocalPrefect
from infra.settings import HEARTBEAT, prefect_url, quiet_prefect
from tasks import recipe
from tasks.errors import BadInput, Interrupted, Unreachable
from tasks.records import Verdict

REFUSED = 3


def run(given: argparse.Namespace) -> int:
    """The whole way; nothing heavy is imported when there is nothing left to do."""
    what = recipe.load(given.recipe, given.set)
    beside = given.recipe.absolute().parent
    found = plan.walk(what, beside)
    verdict = found.verdict
    if verdict is None:
        verdict = _retrain(what, beside, found.run_key)
        found = plan.walk(what, beside)
    came = outcome.of(what, found, verdict)
    print(outcome.as_json(came) if given.json else outcome.as_text(what, came))
    return 0 if came["verdict"]["promoted"] else REFUSED


def _retrain(what: recipe.Recipe, beside: Path, run_key: str) -> Verdict:
    from flows.deployments import TAG
    from flows.turn import alone

    _tell()
    with _stoppable(), alone(run_key), ExitStack() as stack:
        if done := plan.walk(what, beside).verdict:
            return done  # by another, while we waited
        server = None if prefect_url() else stack.enter_context(LocalPrefect())
        with _nothing_to_collect():
            from prefect import tags
            from prefect.logging.handlers import APILogHandler
            from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

            from flows.retrain import retrain
        if server and not PREFECT_API_URL.value():  # a profile may name one as well
            own = {PREFECT_API_URL: server.wait(), PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
            stack.enter_context(temporary_settings(own))  # it ends with the run, so nobody would miss a heartbeat
            stack.callback(APILogHandler().flush)  # while there is a server to take the last lines
        elif PREFECT_FLOWS_HEARTBEAT_FREQUENCY.value():  # as often as the server's automation expects
            stack.enter_context(temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: HEARTBEAT}))
        with tags(TAG, what.name):
            return cast(Verdict, retrain(what, str(beside)))  # Prefect unpacks the state that it returns


def _tell() -> None:
    """Our log goes to the terminal, Prefect's stays off it; before Prefect is imported."""
    logging.basicConfig(format="%(asctime)s  %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    logging.getLogger("vernal").setLevel(logging.INFO)
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # not every retry, and no tracebacks of bad headers
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


def label(given: argparse.Namespace) -> int:
    """A model's answers as tasks, for people to annotate."""
    _tell()
    with _nothing_to_collect():
        from flows import label as tasks
    found = (json.dumps(each, ensure_ascii=False) for each in tasks.label(given.model, given.source))
    print("[" + ",\n".join(found) + "]")
    return 0


def promote(given: argparse.Namespace) -> int:
    """A registered version through the gate, by hand."""
    from tasks.release import promote as gate

    verdict = gate.by_hand(given.model, given.version)
    if not verdict.pending:
        events.decided(verdict.name, verdict.version, "promoted" if verdict.promoted else "refused")
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
    events.decided(given.model, now, "rolled-back")
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


def schedule(given: argparse.Namespace) -> int:
    """Recipes as deployments, or taken away again; what was done about each thing."""
    paths = [Path(each) for each in given.recipe]
    quiet_prefect()
    from flows import scheduling

    if given.remove:  # a name, or a recipe that says it
        names = [str(path) if not path.exists() else recipe.load(path).name for path in paths]
        found = scheduling.remove(names)
    else:
        recipes = [(recipe.load(path), path.absolute().parent) for path in paths]
        found = scheduling.schedule(recipes, Path.cwd())
    print(json.dumps(found, indent=1) if given.json else scheduling.as_text(found))
    return 0


def emit(given: argparse.Namespace) -> int:
    """Something that happened outside."""
    payload = events.checked(given.event, given.payload)
    told = {"event": given.event, "model": given.model}
    told["id"] = events.send(given.event, given.model, payload, uuid.uuid4().hex)
    print(json.dumps(told) if given.json else f"told Prefect: {given.event} of {given.model}")
    return 0


def doctor(given: argparse.Namespace) -> int:
    """Every check with what it found; 2 if one of them fails, 4 if that one is a service."""
    from flows import doctor as checks

    found = checks.examine()
    print(json.dumps(found, indent=1) if given.json else checks.as_text(found))
    return max((each["exit_code"] for each in found), default=0)


def up(given: argparse.Namespace) -> int:
    """A local stack of real servers, that outlives this command."""
    from flows import local
    from infra.local import stack

    there = stack.local()
    there.up(local.progress)
    print(json.dumps(local.as_json(there), indent=1) if given.json else local.as_text(there))
    if not given.json:
        print(local.where_to_look(there))
    return 0


def down(given: argparse.Namespace) -> int:
    """The local stack ends; what it keeps stays."""
    from flows import local
    from infra.local import stack

    there = stack.local()
    there.down(local.progress)
    print(json.dumps(local.as_json(there), indent=1) if given.json else f"  nothing runs any more; kept: {there.home}")
    return 0


def status(given: argparse.Namespace) -> int:
    """Each part of the local stack; 4 if one does not run that should."""
    from flows import local
    from infra.local import stack

    there = stack.local()
    found = local.as_json(there)
    print(json.dumps(found, indent=1) if given.json else local.as_text(there))
    well = found["state"] == "up" and all(part["state"] == "running" for part in found["parts"])
    return 0 if well or not there.file.exists() else Unreachable.exit_code
