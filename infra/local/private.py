"""Files that only their owner may read, from their first byte on: passwords, keys, and what has them in it.

A file that is written and closed to others afterwards was open for a moment.
"""

import os
from pathlib import Path


def write_privately(path: Path, text: str) -> None:
    """Whole or not at all, and never for anybody else to read."""
    half = path.with_name(path.name + ".half")
    half.unlink(missing_ok=True)
    with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    half.replace(path)
