"""What can go wrong in a task, sorted by what one does about it (the services' half stands in `infra.errors`).

    Coded
    ├── BadInput      mend the recipe, the data or the model      exit 2
    ├── Interrupted   start again: the work is saved              exit 130 (Ctrl-C) or 143 (SIGTERM)
    └── Unreachable, Denied, Missing, Corrupt

A challenger that the gate refuses is no error but a `Verdict`.
"""

from collections.abc import Sequence

from infra.errors import Coded, Corrupt, Denied, Missing, Unreachable

__all__ = ["BadInput", "Coded", "Corrupt", "Denied", "Interrupted", "Missing", "Unreachable", "listed"]

SHOWN = 10


class BadInput(Coded):
    """A recipe, a dataset or a model that cannot be used as it is."""


class Interrupted(Coded):
    """A signal ended the run; what was done is saved, and the same command goes on from there."""

    def __init__(self, code: str, message: str, exit_code: int = 143) -> None:
        super().__init__(code, message)
        self.args = (code, message, exit_code)
        self.exit_code = exit_code


def listed(faults: Sequence[str]) -> str:
    """The first ten faults in one line, with the count of the rest."""
    more = f"; and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
    return "; ".join(faults[:SHOWN]) + more
