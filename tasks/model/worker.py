"""One process of a group that trains together: `python -m tasks.model.worker FOLDER`, started by torchrun."""

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from tasks.errors import Coded
from tasks.model import hardware
from tasks.model.launch import JOB, OUTCOME, Outcome
from tasks.model.training import Job, train
from tasks.model.world import World


def main(folder: Path) -> None:
    """Trains its share of the job in `folder`; the first process writes what came of it there.

    An error that another try would meet again is an outcome; any other ends the process, and torchrun starts it anew.
    """
    threading.Thread(target=end_with_parent, daemon=True).start()
    world = World.joined(hardware.chosen())
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("vernal").setLevel(logging.INFO if world.leads else logging.ERROR)  # one speaks for all
    try:
        outcome = Outcome(trained=train(folder, Job.model_validate_json((folder / JOB).read_bytes()), world))
    except Coded as error:
        outcome = Outcome.of(error)
    if world.leads:
        written = folder / f"{OUTCOME}~"
        written.write_text(outcome.model_dump_json())
        written.replace(folder / OUTCOME)
    world.leave()


def end_with_parent() -> None:
    """Ends the whole group when the process that wanted it is gone."""
    os.read(0, 1)  # not through sys.stdin: its lock, held here, would abort the interpreter as it ends
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
