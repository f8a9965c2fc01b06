"""A recipe on the stack: one run by its own clock, which goes live, and one by hand, which the gate refuses.

What came of it is looked at in `test_scheduled`, as people see it in `test_pages`, and for secrets in `test_canaries`.
"""

import json
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx

from infra.local.stack import Stack

ROOT = Path(__file__).parents[2]
PATIENCE = 600.0  # seconds for a run on a busy machine
HUB = f"hf_{secrets.token_hex(16)}"  # a token of the hub, in the environment of the worker; nobody needs it here
HOOK = secrets.token_hex(16)  # the secret part of the address at which people hear of a refusal
ENDS = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")

RECIPE = """
name: quickstart
task: text-classification
data: {source: customer_messages.jsonl, label: intent, time: time, split: {by: time, validation: 0.1, test: 0.15}}
rules: {min_per_class: 20}
tokens: {length: 64, tokenizer: {train: wordpiece, vocabulary: 4000}}
model: {base: {architecture: encoder, num_layers: 1, d_model: 32, num_heads: 4}}
train: {epochs: 2, batch: 32, learning_rate: 1e-3}
exam: {slices: [length, product]}
gate: {floors: {}}
schedule: [{cron: "* * * * *", slug: soon}]
triggers: {debounce: 10, poll: 86400}
work: {notify: slack-webhook/on-call}
"""


@dataclass
class Prefect:
    """The stack's Prefect server, asked with the password that the stack keeps."""

    stack: Stack

    def ask(self, method: str, path: str, **body: Any) -> Any:
        values = self.stack.environment
        login = httpx.BasicAuth(*values["PREFECT_API_AUTH_STRING"].split(":", 1))
        url = f"{values['PREFECT_API_URL']}/{path}"
        answer = httpx.request(method, url, auth=login, json=body or None, timeout=60, follow_redirects=True)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def runs(self, deployment: str) -> list[Any]:
        """All runs of a deployment, the first in the calendar first."""
        flow, _, name = deployment.partition("/")
        by = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [name]}}}
        return list(self.ask("POST", "flow_runs/filter", **by, sort="EXPECTED_START_TIME_ASC"))

    def events(self, name: str) -> list[Any]:
        return list(self.ask("POST", "events/filter", filter={"event": {"name": [name]}})["events"])


@dataclass
class Scheduled:
    """What came of it."""

    stack: Stack
    prefect: Prefect
    recipe: Path
    created: dict[str, Any]  # what `vernal schedule` said
    first: dict[str, Any]  # the run of the clock, as `vernal run` tells of it afterwards
    second: dict[str, Any]  # the run by hand
    run: dict[str, Any]  # the first in Prefect's words
    rollout: dict[str, Any]
    heard: list[bytes]  # by who is on call
    commands: set[bytes] = field(repr=False)  # the command line of every process that was seen meanwhile
    seconds: dict[str, float] = field(default_factory=dict)


Vernal = Callable[..., Any]


def run_and_refuse(stack: Stack, vernal: Vernal, folder: Path) -> Scheduled:
    """The two runs, and all that follows of them by itself."""
    prefect, seconds = Prefect(stack), dict[str, float]()

    @contextmanager
    def timed(what: str) -> Iterator[None]:
        begun = time.monotonic()
        yield
        seconds[what] = round(time.monotonic() - begun, 1)

    def told(*arguments: str, code: int = 0) -> Any:
        done = vernal(*arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)

    recipe = folder / "quickstart.yaml"
    recipe.write_text(RECIPE)
    shutil.copy(ROOT / "flows/recipes/customer_messages.jsonl", folder)
    with watched() as commands, on_call() as (address, heard):
        block(prefect, address)
        with timed("vernal schedule"):
            created = told("schedule", str(recipe))
        with timed("until the clock's run ended"):
            until(
                lambda: any(run["state_type"] != "SCHEDULED" for run in prefect.runs("retrain/quickstart")), "it fired"
            )
            stop_clock(prefect)
            run = ended(prefect, "retrain/quickstart")
        with timed("until the rollout ended"):
            until(lambda: fired(prefect, "rollout/vernal"), "the event was heard")
            rollout = ended(prefect, "rollout/vernal")
        with timed("vernal run, all reused"):
            first = told("run", str(recipe))
        with timed("vernal run, refused"):
            second = told("run", str(recipe), "--set", "train.seed=1", code=3)
        with timed("until somebody heard of the refusal"):
            until(lambda: heard, "somebody heard of the refusal")
    print(f"\n{seconds}")
    return Scheduled(stack, prefect, recipe, created, first, second, run, rollout, heard, commands, seconds)


def block(prefect: Prefect, address: str) -> None:
    """Where people hear of refusals, as an operator tells Prefect: a block, whose address is a secret."""
    kind = prefect.ask("GET", "block_types/slug/slack-webhook")["id"]
    schema = prefect.ask("POST", "block_schemas/filter", block_schemas={"block_type_id": {"any_": [kind]}})[0]["id"]
    data = {"url": address}
    prefect.ask("POST", "block_documents/", name="on-call", block_type_id=kind, block_schema_id=schema, data=data)


def stop_clock(prefect: Prefect) -> None:
    """One run by the clock is enough: the schedule is switched off, as on Prefect's page.

    Each time that it is, the runs to come are taken out of the calendar. A scheduler that was at it just then puts its
    own in afterwards; it looks every 5 s, so it is switched off until nothing came for longer than that.
    """
    found = prefect.ask("GET", "deployments/name/retrain/quickstart")
    quiet = time.monotonic()
    while time.monotonic() < quiet + 7:
        for schedule in found["schedules"]:
            prefect.ask("PATCH", f"deployments/{found['id']}/schedules/{schedule['id']}", active=False)
        time.sleep(1)
        if any(run["state_name"] == "Scheduled" for run in prefect.runs("retrain/quickstart")):
            quiet = time.monotonic()


def fired(prefect: Prefect, deployment: str) -> bool:
    """Whether a worker has taken a run of it."""
    return any(run["state_type"] != "SCHEDULED" for run in prefect.runs(deployment))


def ended(prefect: Prefect, deployment: str) -> dict[str, Any]:
    """The first run of a deployment, when it has ended."""
    until(lambda: prefect.runs(deployment)[0]["state_type"] in ENDS, f"{deployment} ended")
    return dict(prefect.runs(deployment)[0])


def until(true: Callable[[], object], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, f"not in {PATIENCE:.0f} s: {what}"
        time.sleep(1)


@contextmanager
def watched() -> Iterator[set[bytes]]:
    """Command lines of every process of this machine, several times a second while the block lasts."""
    seen, over = set[bytes](), threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(path.read_bytes())

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield seen
    over.set()
    thread.join()


@contextmanager
def on_call() -> Iterator[tuple[str, list[bytes]]]:
    """Somebody who listens at an address with a secret in it, which Apprise, Prefect's messenger, knows how to ask."""
    heard = list[bytes]()

    class Ear(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            told = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == f"/{HOOK}":
                heard.append(told)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is said on the terminal."""

    with HTTPServer(("127.0.0.1", 0), Ear) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"json://127.0.0.1:{server.server_port}/{HOOK}", heard
        server.shutdown()
        thread.join()
