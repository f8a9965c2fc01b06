"""Between tasks a flow is as patient as they are: what does not answer is asked five times, with growing pauses."""

import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from tasks.errors import Unreachable

PAUSES = (2.0, 4.0, 8.0, 16.0)  # seconds, and up to half as much by chance: those of `tasks.verb`

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
            time.sleep(pause * random.uniform(1, 1.5))
    return ask()
