"""Whose turn it is: one run of the same thing at a time, one training on a GPU at a time."""

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from infra.ledger import Ledger
from infra.settings import settings
from tasks.patience import patiently

GPU = "gpu"  # Prefect's global concurrency limit; `vernal schedule` makes it


@contextmanager
def alone(run_key: str) -> Iterator[None]:
    """Nobody else does this run while the block lasts. Who comes second waits, hours if need be, and finds it done.

    A holder that was killed keeps the others waiting for 10 s, then the first of them goes on where it was.
    """
    leases = Ledger(settings().ledger_url)
    with ExitStack() as held:
        patiently(lambda: held.enter_context(leases.lease(f"run:{run_key}", patience=math.inf)))
        yield


@contextmanager
def on_gpu() -> Iterator[None]:
    """A place at the GPU, where there is one and Prefect says how many fit; losing the lease later ends no training."""
    from prefect.concurrency.sync import concurrency

    from tasks.model import hardware

    if hardware.chosen() == "cuda":
        with concurrency(GPU, occupy=1, raise_on_lease_renewal_failure=False):
            yield
    else:
        yield
