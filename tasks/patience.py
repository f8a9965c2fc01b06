"""What does not answer is asked five times, with growing pauses: by Prefect in tasks, by `patiently` between them."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tasks.errors import Unreachable

PAUSES = (2.0, 4.0, 8.0, 16.0)  # seconds
JITTER = 0.5  # as much of a pause comes on top at most, by chance

R = TypeVar("R")

log = logging.getLogger("vernal.retrain")


def patiently(ask: Callable[[], R]) -> R:
    """What comes of asking.

    Raises:
        Unreachable: as the last try did; any other error as the first that met it.
    """
    for pause in PAUSES:
        try:
            return ask()
        except Unreachable as error:
            log.warning("%s; asked again in %.0f s", error, pause)
            time.sleep(pause * random.uniform(1, 1 + JITTER))
    return ask()
