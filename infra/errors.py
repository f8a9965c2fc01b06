"""What can go wrong, sorted by what one does about it.

    Coded                an answer with a stable code; never a traceback
    ├── Unreachable      a service does not answer: wait and try again            exit 4, retried
    ├── Denied           a service refuses us: mend credentials or rights         exit 4
    ├── Missing          something named is not there                             exit 2
    ├── Corrupt          bytes differ from their digest: never used               exit 2
    └── (tasks.errors)   BadInput, Interrupted

Every message says what was found, where, what was wanted and what to do. The README lists every code.
"""


class Coded(Exception):
    """An error a person can act on: a code that never changes and one line that says it all."""

    exit_code = 2

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        """One line whatever was found: what would break it, steer a terminal or stay unseen stands as an escape."""
        line = f"{self.code} {self.message}"
        return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


class Unreachable(Coded):
    """A service does not answer. The only error that a task retries."""

    exit_code = 4


class Denied(Coded):
    """A service answers and refuses: waiting mends nothing, credentials might."""

    exit_code = 4


class Missing(Coded):
    """What was named does not exist."""


class Corrupt(Coded):
    """Stored bytes are not those that were written."""
