"""What a flow asks between its tasks is asked again when a service is away, and nothing else is."""

import pytest

from flows import patience, turn
from flows.patience import patiently
from infra.ledger import Lease, Ledger
from tasks.errors import Denied, Unreachable


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that would have been made."""
    made: list[float] = []
    monkeypatch.setattr(patience.time, "sleep", made.append)
    return made


def test_a_service_that_comes_back_was_never_missed(pauses: list[float]) -> None:
    answers = iter([Unreachable("E-SQL-UNAVAILABLE", "away"), Unreachable("E-SQL-UNAVAILABLE", "away"), None])

    def ask() -> str:
        if error := next(answers):
            raise error
        return "there"

    assert patiently(ask) == "there"
    assert [round(each / wanted) for each, wanted in zip(pauses, patience.PAUSES, strict=False)] == [1, 1]


def test_one_that_stays_away_is_given_up_after_five_tries(pauses: list[float]) -> None:
    def ask() -> None:
        raise Unreachable("E-SQL-UNAVAILABLE", "away")

    with pytest.raises(Unreachable):
        patiently(ask)
    assert len(pauses) == 4
    assert 30 <= sum(pauses) <= 45


def test_what_waiting_does_not_mend_is_said_at_once(pauses: list[float]) -> None:
    def ask() -> None:
        raise Denied("E-SQL-DENIED", "wrong password")

    with pytest.raises(Denied):
        patiently(ask)
    assert pauses == []


def test_a_database_that_restarts_while_a_run_waits_for_its_turn_ends_no_run(
    monkeypatch: pytest.MonkeyPatch, home: object
) -> None:
    acquire, tries = Ledger._acquire, iter([True, True, False])

    def away(ledger: Ledger, name: str, patience: float) -> Lease:
        if next(tries):
            raise Unreachable("E-SQL-UNAVAILABLE", "it restarts")
        return acquire(ledger, name, patience)

    monkeypatch.setattr(Ledger, "_acquire", away)
    with turn.alone("sha256:1"):
        assert next(tries, None) is None
