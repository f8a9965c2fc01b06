"""A person's word on a version that passed the gate: once, in time, and about the champion that it was compared with.

Nothing waits for it: a request is a row of the ledger, and its answer a decision under the same key and lease.
"""

import getpass
import logging
import os
from typing import Any

from infra.ledger import Decision, Kind, Ledger, Request
from infra.settings import settings
from tasks import stages
from tasks.errors import BadInput
from tasks.model import bases
from tasks.release import promote
from tasks.release.aliases import project

log = logging.getLogger("vernal.approval")


def settle(name: str, number: int, *, approve: bool) -> Decision:
    """What the person at this machine decides about a version that waits.

    Judged again if another champion is live than it was compared with.

    Raises:
        BadInput: E-APPROVAL-NONE, it does not wait; E-APPROVAL-LATE, the time for an answer is over.
    """
    ledger, who = Ledger(settings().ledger_url), person()
    with ledger.lease(f"model:{name}") as lease:
        asked = next((each for each in reversed(ledger.asked(name)) if each.version == number), None)
        if asked is None:
            found = _answered(ledger, name, number)
            raise BadInput("E-APPROVAL-NONE", f"{name} version {number} waits for nobody's word{found}")
        if promote.overdue(asked):
            message = f"{name} version {number}: the time to answer ended {asked.body['until']}; it counts as refused"
            raise BadInput("E-APPROVAL-LATE", f"{message}; `vernal reconcile` writes that down")
        body = approved(ledger, asked, who) if approve else promote.refused(asked, f"refused by {who}")
        kind: Kind = "promoted" if body["promoted"] else "refused"
        return written(ledger, ledger.decide(lease, model=name, version=number, kind=kind, key=asked.key, body=body))


def approved(ledger: Ledger, asked: Request, who: str) -> dict[str, Any]:
    """The verdict that was approved, or that of a new exam if the champion is another by now."""
    body: dict[str, Any] = asked.body["verdict"]
    if ledger.champion(asked.model) != body["champion"]:
        version, checked, plan = promote.examined(asked.model, asked.version)
        with stages.workplace("approve") as folder:
            body = promote.judged(folder, ledger, version, checked, plan.task, plan.metric, plan.gate)
    return {**body, "by": who, "reasons": [*body["reasons"], f"approved by {who}"]}


def overdue(name: str) -> list[Decision]:
    """Refuses all requests about a model that nobody answered in time."""
    ledger = Ledger(settings().ledger_url)
    if not any(map(promote.overdue, ledger.asked(name))):
        return []
    with ledger.lease(f"model:{name}") as lease:
        return [
            written(
                ledger,
                ledger.decide(
                    lease,
                    model=name,
                    version=asked.version,
                    kind="refused",
                    key=asked.key,
                    body=promote.refused(asked, promote.late(asked)),
                ),
            )
            for asked in ledger.asked(name)
            if promote.overdue(asked)
        ]


def written(ledger: Ledger, decision: Decision) -> Decision:
    """Shows a decision in the registry."""
    project(ledger, decision.model)
    if version := bases.registered(decision.model, decision.version):
        promote.label(version, decision.body)
    log.info("%s version %d %s: %s", decision.model, decision.version, decision.kind, decision.body["reasons"][-1])
    return decision


def person() -> str:
    """Who is at this machine, as the system knows it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return f"user {os.getuid()}"


def _answered(ledger: Ledger, name: str, number: int) -> str:
    last = next((each for each in reversed(ledger.decisions(name)) if each.version == number), None)
    return f": it was {last.kind} at {last.at[:19]}" if last else f"; `vernal explain {name}` lists what does"
