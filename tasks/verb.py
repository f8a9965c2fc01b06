"""The one way in which a verb becomes a Prefect task.

Only what is unreachable is tried again, with exponential backoff and jitter: waiting mends no bad row. Prefect keeps no
results, since a stage's manifest in the store is what is reused (Prefect's own cache hashes with pickle and knows only
the source of the task's own body, not of what it calls).
"""

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.tasks import exponential_backoff

from infra.errors import Unreachable

P = ParamSpec("P")
R = TypeVar("R")


def verb(function: Callable[P, R]) -> Task[P, R]:
    """`function` as a task named like it: five tries when a service does not answer, one for everything else."""
    return task(
        retries=4,
        retry_delay_seconds=exponential_backoff(backoff_factor=2),
        retry_jitter_factor=0.5,
        retry_condition_fn=_is_unreachable,
        cache_policy=NO_CACHE,
        persist_result=False,
    )(function)


def _is_unreachable(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), Unreachable)
