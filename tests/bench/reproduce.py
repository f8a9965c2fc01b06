"""`make reproduce`: runs every recipe that ships, and shows the score that comes out beside the one in its header.

    python -m tests.bench.reproduce                    all of them, one after another
    python -m tests.bench.reproduce questions slots    those whose files have these names

`VERNAL_DATA` names the folder of the datasets. A header has its figures behind `measured:`, and the first of them is a
metric of its task: `measured: entity F1 0.8668 on the …`. Another processor adds up in another order, so that a run on
it ends some thousandths beside; what ends further off than that is no reproduction, and the command says so.
"""

import json
import math
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURE = re.compile(r"^# measured: ([A-Za-z][\w -]*?) (\d+\.\d+)", re.MULTILINE)
ENDED = (0, 3)  # 3: scored, but the champion stays
NEAR = 0.03  # of a header's figure, in which a reproduction ends


def recipes() -> dict[str, Path]:
    """The recipes that ship, by the name of their file."""
    return {path.stem: path for path in sorted((ROOT / "flows" / "recipes").rglob("*.yaml"))}


def claimed(path: Path) -> tuple[str, float]:
    """The first figure in a recipe's header: metric and value."""
    found = FIGURE.search(path.read_text())
    assert found, f"{path}: no `# measured: METRIC 0.123 …` in its header"
    return re.sub("[ -]", "_", found[1].lower()), float(found[2])


def scored(path: Path) -> tuple[dict[str, float], int]:
    """The scores of a run of the recipe, none if it did not end, and its exit code."""
    command = [sys.executable, "-m", "flows", "run", str(path), "--json"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    return json.loads(done.stdout)["scores"] if done.returncode in ENDED else {}, done.returncode


def main() -> int:
    """Runs the recipes that were asked for, or all; returns 1 if one did not end, or not near its header's figure."""
    known, near = recipes(), True
    for name in sys.argv[1:] or known:
        (metric, value), began = claimed(known[name]), time.monotonic()
        scores, code = scored(known[name])
        found = f"measured {scores[metric]:.4f}  {scores[metric] - value:+.4f}" if scores else f"exit code {code}"
        minutes = (time.monotonic() - began) / 60
        print(f"{name:<18} {metric:<10} header {value:.4f}  {found}  {minutes:.1f} min", flush=True)
        near &= bool(scores) and math.isclose(scores[metric], value, rel_tol=NEAR)
    return int(not near)


if __name__ == "__main__":
    sys.exit(main())
