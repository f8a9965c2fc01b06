"""`make bench`: measures us against the plain Hugging Face way and writes RESULTS.md beside this file.

    python -m tests.bench                         every part, then the file
    python -m tests.bench training memory         these parts, on the screen only
    python -m tests.bench --steps 2               all parts cut short, on the screen only, to try them out

Everything is computed by one thread: two wait for each other as soon as the machine has other work.
"""

import argparse
import importlib
import os
import sys
import time

from tasks.errors import Coded
from tests.bench.paired import share_heap

PARTS = ("memory", "pace", "tokenising", "reading", "training", "frozen", "inference", "overhead", "around")
ONE_THREAD = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")


def main() -> int:
    """Runs the parts that were asked for; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; none: all")
    parser.add_argument("--steps", type=int, help="steps of each contender, 2 or more, instead of enough of them")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))  # before torch is imported, and for the children
    share_heap()
    began, sections = time.monotonic(), []
    try:
        for part in asked.parts or PARTS:
            for section in importlib.import_module(f"tests.bench.{part}").sections(asked.steps):
                sections.append(section)
                print(f"{section}\n{part}: {time.monotonic() - began:.0f} s\n", flush=True)
    except Coded as error:
        print(error, file=sys.stderr)
        return error.exit_code
    if not asked.parts and asked.steps is None:
        from tests.bench import results

        results.write(sections)
    return 0


if __name__ == "__main__":
    sys.exit(main())
