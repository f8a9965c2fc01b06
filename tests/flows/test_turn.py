"""Whose turn it is: who waits for it outlives the database."""

import pytest

from flows import turn
from infra.ledger import Lease, Ledger
from tasks import patience
from tasks.errors import Unreachable


def test_a_database_that_restarts_while_a_run_waits_for_its_turn_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, home: object
) -> None:
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: None)
    acquire, tries = Ledger._acquire, iter([True, True, False])

    def away(ledger: Ledger, name: str, patience: float) -> Lease:
        if next(tries):
            raise Unreachable("E-SQL-UNAVAILABLE", "it restarts")
        return acquire(ledger, name, patience)

    monkeypatch.setattr(Ledger, "_acquire", away)
    with turn.alone("sha256:1"):
        assert next(tries, None) is None
