"""The registry's aliases, set from the ledger: which version is live, and which was before.

The ledger decides, the registry shows; so aliases can be set again at any time, and a rollback is one decision.
"""

import uuid

from infra.ledger import Ledger
from infra.settings import settings
from tasks.errors import BadInput
from tasks.model.curves import registry


def project(ledger: Ledger, name: str) -> None:
    """Sets the registry's aliases as the ledger says; the champion's last."""
    there = registry()
    champion, previous = ledger.champion(name), ledger.previous(name)
    if previous is not None:
        there.point(name, "previous", previous)
    if champion is not None:
        there.point(name, "champion", champion)
        if there.aliases(name).get("challenger") == champion:
            there.unpoint(name, "challenger")


def rollback(name: str) -> tuple[int, int]:
    """Gives the champion's place back to the version before; again, forwards. Returns (from, to).

    Raises:
        BadInput: E-NO-PREVIOUS, no version was champion before.
    """
    ledger = Ledger(settings().ledger_url)
    with ledger.lease(f"model:{name}") as lease:
        champion, previous = ledger.champion(name), ledger.previous(name)
        if champion is None or previous is None:
            found = f"champion {champion or 'none'}, before it none"
            raise BadInput("E-NO-PREVIOUS", f"{name}: {found}; there is nothing to go back to")
        body = {"from": champion, "to": previous}
        ledger.decide(lease, model=name, version=previous, kind="rolled-back", key=uuid.uuid4().hex, body=body)
        project(ledger, name)
    return champion, previous
