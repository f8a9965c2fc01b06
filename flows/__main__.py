"""The `vernal` command. Its help and `check` import neither torch nor Prefect nor MLflow."""

import argparse
import atexit
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path


def parser() -> argparse.ArgumentParser:
    """All commands with their help."""
    top = argparse.ArgumentParser(prog="vernal", description="Keeps fine-tuned Transformers in season.")
    top.add_argument("--version", action="version", version="vernal 0.1.0")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="the whole way once, here: from a recipe's data to a verdict")
    check = commands.add_parser("check", help="validate a recipe, and say what would run and what would be reused")
    advise = commands.add_parser(
        "advise",
        help="which base to take for a recipe, on this machine",
        description="Ranks bases for a recipe: probes what each knows of the answers, times real steps of each on this "
        "machine, and forecasts memory and the whole fine-tuning. Bases whose probe is at most 0.05 below the "
        "best come first, the fastest of them at the top; then the same with the rest. Where a task cannot "
        "be probed the fastest comes first. Those that a run would refuse come last, with the reason.",
    )
    advise.add_argument(
        "--base",
        action="append",
        default=[],
        metavar="B",
        help="a base as model.base takes it, repeatable; none: the recipe's own, the folders below VERNAL_MODELS, and "
        "encoders of three sizes",
    )
    for command in (run, check, advise):
        command.add_argument("recipe", type=Path, help="a recipe, for example flows/recipes/quickstart.yaml")
        command.add_argument("--set", action="append", default=[], metavar="A.B=C", help="change one dial, repeatable")
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    explain = commands.add_parser("explain", help="why a version is live, and from what it was made")
    explain.add_argument("model", help="NAME, NAME@champion, NAME@previous or NAME@NUMBER")
    label = commands.add_parser(
        "label",
        help="a model's answers to rows, as tasks for Label Studio, the least certain first",
        description="Answers rows and prints tasks with predictions for Label Studio as JSON, the least certain first. "
        "What it prints is a source as well: its rows train, and never examine, until a person has annotated them.",
    )
    label.add_argument("model", help="NAME, NAME@champion, NAME@previous or NAME@NUMBER")
    label.add_argument("source", help="rows, labelled or not: a file, folder, glob, s3:// or hf://name@revision")
    promote = commands.add_parser("promote", help="let a registered version through the gate now, by hand")
    approve = commands.add_parser("approve", help="say yes to a version that passed the gate and waits for a person")
    refuse = commands.add_parser("refuse", help="say no to a version that passed the gate and waits for a person")
    for command in (promote, approve, refuse):
        command.add_argument("model", help="name of the model")
        command.add_argument("version", type=int, help="number of the version")
    rollback = commands.add_parser("rollback", help="give the champion's place back to the version before")
    rollback.add_argument("model", help="name of the model")
    schedule = commands.add_parser("schedule", help="recipes as Prefect deployments: schedules, triggers, automations")
    schedule.add_argument("recipe", nargs="+", help="recipes; with --remove also names of models")
    schedule.add_argument("--remove", action="store_true", help="take away all that is theirs")
    emit = commands.add_parser("emit", help="tell Prefect that something happened to a model")
    emit.add_argument("event", help="vernal.data.arrived, vernal.drift.found or vernal.decay.found")
    emit.add_argument("model", help="name of the model")
    emit.add_argument("--payload", default="{}", metavar="JSON", help="what is known of it, as a JSON object")
    reconcile = commands.add_parser("reconcile", help="bring what Prefect and MLflow show back to what was decided")
    doctor = commands.add_parser("doctor", help="is this environment fit: versions, store, database, servers")
    up = commands.add_parser(
        "up",
        help="start a local stack of real servers: PostgreSQL, S3, Prefect, MLflow, a worker; commands then use it",
    )
    down = commands.add_parser("down", help="end the local stack; its data stay")
    status = commands.add_parser("status", help="each part of the local stack: state, address, memory, restarts")
    for command in (explain, promote, approve, refuse, rollback, schedule, emit, reconcile, doctor, up, down, status):
        command.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code."""
    given = parser().parse_args(arguments)
    atexit.register(gc.freeze)  # an interpreter that ends looks for garbage in all it has: two seconds after a run
    from flows import commands
    from infra.settings import settings
    from tasks.errors import Coded

    try:
        if settings().stack_file.exists() and given.command not in ("up", "down", "status"):
            from infra.local import stack

            stack.local().join()
        return int(getattr(commands, given.command)(given))
    except Coded as error:
        print(error, file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever read what is printed has enough of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("E-INTERRUPTED stopped; finished stages are kept, the same command goes on from them", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
