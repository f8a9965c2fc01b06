"""What a person sees who opens a page: its text, a photograph, and what the browser's console complains about.

Debian's Chromium without a window, a fresh one for each page, driven by its own DevTools protocol: a page of a server
draws itself when its answers have come, and only who watches it knows when that is.
"""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 90.0  # seconds for a page to say what it is asked for, on a busy machine
CALM = 1.0  # seconds in which pictures and fonts come after it


@dataclass(frozen=True)
class Seen:
    """A page as it was shown."""

    text: str
    complaints: tuple[str, ...]
    photograph: Path


def look(
    url: str,
    photograph: Path,
    *words: str,
    width: int = 1280,
    height: int = 1600,
    dark: bool = False,
    kept: Mapping[str, str] | None = None,
) -> Seen:
    """Opens `url`, waits until it says all `words` or patience ends, and takes its photograph.

    Args:
        kept: what the browser's local storage holds, as a page left it there that was opened before.
    """
    with opened() as tab:
        tab.ask("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        tab.ask("Emulation.setEmulatedMedia", features=[scheme])
        for name, value in (kept or {}).items():
            line = f"localStorage.setItem({json.dumps(name)}, {json.dumps(value)})"
            tab.ask("Page.addScriptToEvaluateOnNewDocument", source=line)
        tab.ask("Page.navigate", url=url)
        text, until = tab.text(), time.monotonic() + PATIENCE
        while not all(word in text for word in words) and time.monotonic() < until:
            time.sleep(0.3)
            text = tab.text()
        time.sleep(CALM)
        photograph.write_bytes(base64.b64decode(tab.ask("Page.captureScreenshot", format="png")["data"]))
        return Seen(tab.text(), tuple(tab.complaints), photograph)


class Tab:
    """One page of a browser, asked over its socket; what its console says meanwhile is kept."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._asked = 0
        self.complaints: list[str] = []
        for what in ("Page", "Runtime", "Log"):
            self.ask(f"{what}.enable")

    def ask(self, method: str, **given: Any) -> Any:
        self._asked += 1
        self._socket.send(json.dumps({"id": self._asked, "method": method, "params": given}))
        while True:
            told = json.loads(self._socket.recv(timeout=PATIENCE))
            if told.get("id") == self._asked:
                assert "error" not in told, f"{method}: {told['error']}"
                return told["result"]
            self._hear(told.get("method"), told.get("params", {}))

    def text(self) -> str:
        """What can be read on the page, on one line."""
        found = self.ask("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return " ".join(str(found["result"].get("value", "")).split())

    def _hear(self, what: str | None, told: dict[str, Any]) -> None:
        if what == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"]["text"])
        elif what == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
            self.complaints.append(" ".join(str(each.get("value", "")) for each in told["args"]))
        elif what == "Log.entryAdded" and told["entry"]["level"] == "error":
            self.complaints.append(f"{told['entry']['text']} ({told['entry'].get('url', '')})")


@contextmanager
def opened() -> Iterator[Tab]:
    """An empty page of a browser that nobody used before; it ends with the block."""
    name = next(filter(None, map(shutil.which, NAMES)), None)
    if name is None:
        pytest.skip("no Chromium to look with; install Debian's package chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [name, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        command += ["--disable-background-networking", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        browser = subprocess.Popen([*command, "about:blank"], **quiet)
        try:
            with connect(_page(Path(profile)), max_size=None) as socket:
                yield Tab(socket)
        finally:
            browser.terminate()
            browser.wait(30)


def _page(profile: Path) -> str:
    """Where the first page of a browser that comes up is to be asked."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        with suppress(OSError, ValueError, IndexError, StopIteration):
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
                return next(str(each["webSocketDebuggerUrl"]) for each in json.load(answer) if each["type"] == "page")
        time.sleep(0.1)
    raise AssertionError("Chromium did not come up")
