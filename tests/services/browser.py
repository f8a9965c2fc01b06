"""What a person sees who opens a page: its text, a photograph, and what the browser's console complains about.

Debian's Chromium without a window; it is asked for one page at a time and ends by itself.
"""

import html
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
COMPLAINT = re.compile(r'ERROR:CONSOLE[^"]*"(.*)", source: (\S*)')


@dataclass(frozen=True)
class Seen:
    """A page as it was shown."""

    text: str
    dom: str
    complaints: tuple[str, ...]
    photograph: Path


def look(
    url: str, photograph: Path, *, width: int = 1280, height: int = 1600, dark: bool = False, patience: float = 20
) -> Seen:
    """Opens `url`, waits until it is quiet or `patience` seconds of its own time are over, and takes its photograph."""
    name = next(filter(None, map(shutil.which, NAMES)), None)
    if name is None:
        pytest.skip("no Chromium to look with; install Debian's package chromium")
    with tempfile.TemporaryDirectory() as profile:
        command = [name, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        command += [f"--user-data-dir={profile}", f"--window-size={width},{height}", "--enable-logging=stderr"]
        command += [f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--disable-background-networking"]
        command += [f"--virtual-time-budget={int(patience * 1000)}", f"--screenshot={photograph}", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    dom = done.stdout
    bare = re.sub(r"<(script|style)\b.*?</\1>", " ", dom, flags=re.DOTALL)
    text = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", bare)).split())
    complaints = tuple(f"{what} ({where})" for what, where in COMPLAINT.findall(done.stderr))
    return Seen(text, dom, complaints, photograph)
