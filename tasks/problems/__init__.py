"""What can be learned: one file a kind of problem, and nothing about a problem stands anywhere else.

A problem says which columns a row has, how rows become tokens and labels, which head and loss learn them, how outputs
become answers, and which metrics judge these. A recipe names it (`task: text-classification`); its file is that name
with underscores. So a new problem is a new file here; `contract.py` says what it must hold. Imports no torch.
"""

import difflib
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from tasks.problems.contract import Problem

__all__ = ["Problem", "named", "names"]


def names() -> tuple[str, ...]:
    """The problems that there are, as recipes name them."""
    files = {module.name for module in iter_modules(__path__)} - {"contract"}
    return tuple(sorted(name.replace("_", "-") for name in files))


@cache
def named(name: str) -> Problem:
    """The problem of that name.

    Raises:
        ValueError: there is none; says which there are.
    """
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        meant = f" (did you mean {close[0]!r}?)" if close else ""
        raise ValueError(f"one of {', '.join(names())}{meant}")
    found = import_module(f"{__name__}.{name.replace('-', '_')}").PROBLEM
    assert isinstance(found, Problem)
    return found
