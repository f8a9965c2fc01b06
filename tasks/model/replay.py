"""A Bundle, read back from the store and asked its golden inputs, in a process that has seen nothing of it before.

Whoever asks believes neither its own memory nor its own copies: the bytes come from the store and are hashed here.
"""

import json
import subprocess
import sys

from infra.storage import Store
from tasks import stages
from tasks.errors import BadInput, Coded, Corrupt, Denied, Missing, Unreachable
from tasks.model import hardware
from tasks.model.bundle import Model
from tasks.records import Bundle, Digest


def afresh(bundle: Digest) -> int:
    """How many golden inputs a bundle answered, in a new process, as it was packaged.

    Raises:
        Corrupt: E-INTEGRITY, its bytes are not those that were examined; E-GOLDEN, its answers are not.
        BadInput: E-REPLAY, the process died.
    """
    command = [sys.executable, "-m", "tasks.model.replay", bundle]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        told = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = " / ".join(done.stderr.splitlines()[-3:])
        message = f"the process that replayed bundle {bundle[7:19]} ended with status {done.returncode}: {last!r}"
        raise BadInput("E-REPLAY", f"{message}; is there memory for it? start again") from None
    if "error" in told:
        kinds = {kind.__name__: kind for kind in (Unreachable, Denied, Missing, Corrupt)}
        raise kinds.get(told["error"], BadInput)(told["code"], told["message"])
    return int(told["golden"])


def replayed(bundle: Digest) -> int:
    """How many golden inputs the bundle answers here as it was packaged."""
    record = stages.by_digest("package", Bundle, bundle)
    with stages.workplace("replay") as folder:
        there = Store(stages.artifacts().bucket, folder / "cache")
        files = {name: file.digest for name, file in record.files.items()}
        model = Model.load(there.checkout(files, folder / "bundle"), hardware.chosen())
        model.check()
    return len(model.golden)


if __name__ == "__main__":
    try:
        print(json.dumps({"golden": replayed(sys.argv[1])}))
    except Coded as error:
        print(json.dumps({"error": type(error).__name__, "code": error.code, "message": error.message}))
