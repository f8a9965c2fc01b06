"""Tables as people read them, and the circumstances without which their numbers say nothing."""

import datetime
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).with_name("RESULTS.md")
PACKAGES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "mlflow")


@dataclass(frozen=True)
class Section:
    """One table with what it means."""

    title: str
    text: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __str__(self) -> str:
        lines = [self.heads, ["---"] + ["---:"] * (len(self.heads) - 1), *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"## {self.title}\n\n{self.text}\n\n{table}\n"


def write(sections: Sequence[Section]) -> None:
    """Puts the sections of a whole run into RESULTS.md."""
    head = f"# Results of `make bench`\n\n{circumstances()}\n"
    FILE.write_text("\n".join([head, *map(str, sections)]))


def circumstances() -> str:
    """Hardware, commit, date and versions."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return "\n".join(
        [
            f"- {datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC, commit {commit()}",
            f"- {processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; every figure is of one thread",
            f"- load when it ended (runnable processes, 15 minutes): {os.getloadavg()[2]:.1f}",
            f"- Python {platform.python_version()}, {packages}",
        ]
    )


def commit() -> str:
    """The commit that was measured, and whether source files differ from it."""
    here = Path(__file__).parent
    name = _git("rev-parse", "--short", "HEAD", where=here)
    return f"{name} with changes" if _git("status", "--porcelain", "--", ":/*.py", where=here) else name


def processor() -> str:
    """The kind of processor, with what it has for arithmetic in half precision."""
    facts = dict(line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().split("\n") if ":" in line)
    named = {name.strip(): value.strip() for name, value in facts.items()}
    flags = [flag for flag in ("avx512f", "avx512_bf16", "amx_bf16") if flag in named.get("flags", "").split()]
    return f"{named.get('model name', platform.machine())} ({', '.join(flags) or 'no AVX-512'})"


def _git(*arguments: str, where: Path) -> str:
    done = subprocess.run(["git", *arguments], cwd=where, capture_output=True, text=True, check=False)
    return done.stdout.strip()
