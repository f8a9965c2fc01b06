"""The registry's aliases, set from the ledger: which version is live, and which was before.

The ledger decides, the registry shows; so aliases can be set again at any time, and a rollback is one decision.
"""

import uuid

from infra.ledger import Ledger
from infra.registry import Alias
from infra.settings import settings
from tasks.errors import BadInput
from tasks.model.curves import registry


def project(ledger: Ledger, name: str) -> None:
    """Sets the registry's aliases as the ledger says; the champion's last."""
    there = registry()
    for alias, number in astray(ledger, name).items():
        if number is None:
            there.unpoint(name, alias)
        else:
            there.point(name, alias, number)


def astray(ledger: Ledger, name: str) -> dict[Alias, int | None]:
    """The aliases that are not as the ledger says, with the version that they should point to; None: to none."""
    pointed = registry().aliases(name)
    champion = ledger.champion(name)
    wanted: dict[Alias, int | None] = {"previous": ledger.previous(name), "champion": champion}
    if pointed.get("challenger") == champion:
        wanted["challenger"] = None
    return {alias: number for alias, number in wanted.items() if pointed.get(alias) != number}


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
