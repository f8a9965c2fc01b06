"""A live Version -> deployable: its Bundle is read back and asked again, then the ledger says that it may be served.

The mark belongs to the decision that made the version live, is written once under the model's lease, and not at all
when a later decision has put another in its place. The registry's tag follows the ledger.
"""

import logging

from infra.ledger import LIVE, Decision, Ledger, Rollout
from infra.settings import settings
from tasks.errors import BadInput
from tasks.model import bases, replay
from tasks.model.curves import registry
from tasks.verb import verb

log = logging.getLogger("vernal.rollout")


@verb
def rollout(name: str, version: int, decision: int) -> Rollout | None:
    """Marks what a decision made live as deployable; None: a later decision took its place."""
    ledger = Ledger(settings().ledger_url)
    decided = found(ledger, name, version, decision)
    marked = next((each for each in ledger.rollouts(name) if each.decision == decision), None)
    if marked is None and ledger.live(name) == decided:
        marked = mark(ledger, decided)
    if marked is None:
        log.info("%s version %d: a later decision than %d is live, nothing to do", name, version, decision)
        return None
    registry().tag(name, version, "vernal.deployable", f"decision {decision}")
    log.info("%s version %d is deployable", name, version)
    return marked


def mark(ledger: Ledger, decision: Decision) -> Rollout | None:
    """Reads the bundle back, and marks the decision if it is still the live one."""
    version = bases.registered(decision.model, decision.version)
    if version is None:
        message = (
            f"{decision.model} version {decision.version} is live and not in the store; is it the store of its run?"
        )
        raise BadInput("E-REG-MISSING", message)
    golden = replay.afresh(version.bundle)
    with ledger.lease(f"model:{decision.model}") as lease:
        return ledger.roll_out(lease, decision, {"bundle": version.bundle, "golden": golden})


def found(ledger: Ledger, name: str, version: int, decision: int) -> Decision:
    """The decision that was named.

    Raises:
        BadInput: E-DECISION, there is none that made this version live.
    """
    for each in ledger.decisions(name):
        if (each.id, each.version) == (decision, version) and each.kind in LIVE:
            return each
    message = f"{name}: no decision {decision} made version {version} live"
    raise BadInput("E-DECISION", f"{message}; `vernal explain {name}` shows what was decided")
