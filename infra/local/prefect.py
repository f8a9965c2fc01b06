"""A Prefect server for one run, where none is configured.

Prefect would start one by itself, but only after its whole server has been imported into the run's own process (1.8 s),
and nothing else goes on while it comes up. This one starts in a process of its own before anything is imported here,
and is there when the imports are done. It ends when its standard input does, so that a killed run
leaves no server behind.
"""

import gc
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress
from types import TracebackType
from urllib.error import URLError

from infra.errors import Unreachable
from infra.local import ports

PATIENCE = 120.0  # seconds; a new database takes 20 on two busy cores


class LocalPrefect:
    """A server on a free loopback port; a context manager. `url` is its API."""

    def __init__(self) -> None:
        [self.port] = ports.free()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LocalPrefect":
        """Starts the server and returns at once; `wait` for it before it is used."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "infra.local.prefect", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run, which still has to tell the server
        )
        return self

    def wait(self) -> str:
        """The API's URL, once it answers.

        Raises:
            Unreachable: E-PREFECT-DOWN, the server ended, or did not answer in two minutes.
        """
        assert self.process is not None
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until and self.process.poll() is None:
            with suppress(URLError, OSError), urllib.request.urlopen(f"{self.url}/health", timeout=2):
                return self.url
            time.sleep(0.05)
        raise Unreachable(
            "E-PREFECT-DOWN",
            f"the run's own Prefect server at {self.url} did not come up; run `prefect server start` to see why",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is None or self.process.stdin is None:
            return
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()


def serve(port: int) -> None:
    """Serves Prefect's API and pages until standard input ends."""
    import uvicorn

    def end_with_parent() -> None:
        sys.stdin.buffer.read()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
        os._exit(0)

    threading.Thread(target=end_with_parent, daemon=True).start()
    app = "prefect.server.api.server:create_app"
    config = uvicorn.Config(app, factory=True, host="127.0.0.1", port=port, log_level="error")
    gc.disable()  # what is imported stays, and looking through it for garbage takes half a second
    config.load()
    gc.freeze()
    gc.enable()
    uvicorn.Server(config).run()


if __name__ == "__main__":
    serve(int(sys.argv[1]))
