"""The one way in which a verb becomes a Prefect task.

Only what is unreachable is tried again, with exponential backoff and jitter: waiting mends no bad row. Prefect keeps no
results, since a stage's manifest in the store is what is reused (Prefect's own cache hashes with pickle and knows only
the source of the task's own body, not of what it calls).
"""

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.context import TaskRunContext
from prefect.states import Completed

from infra.errors import Unreachable
from tasks import stages
from tasks.patience import JITTER, PAUSES

P = ParamSpec("P")
R = TypeVar("R")


class Verb(Task[P, R]):
    """A task that gives what it made, whatever the name of the state that says how."""

    def __call__(self, *given: P.args, **named: P.kwargs) -> R:  # type: ignore[override]
        came = super().__call__(*given, **named)
        return cast(R, came.result()) if isinstance(came, State) else came


def verb(function: Callable[P, R]) -> Task[P, R]:
    """`function` as a task named like it: five tries when a service does not answer, one for everything else.

    Its state is "Reused" where the stage was there already.
    """

    @wraps(function)
    def told(*given: P.args, **named: P.kwargs) -> R:
        stages.REUSED.set(False)
        made = function(*given, **named)
        if stages.REUSED.get() and TaskRunContext.get():
            return cast(R, Completed(name="Reused", message="it was there already", data=made))
        return made

    return Verb(
        told,
        retries=len(PAUSES),
        retry_delay_seconds=list(PAUSES),
        retry_jitter_factor=JITTER,
        retry_condition_fn=_is_unreachable,
        cache_policy=NO_CACHE,
        persist_result=False,
    )


def _is_unreachable(_task: Any, _run: Any, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), Unreachable)
