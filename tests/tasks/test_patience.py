"""What is asked of a service that is away is asked again, and nothing else is."""

import pytest

from tasks import patience
from tasks.errors import Denied, Unreachable
from tasks.patience import patiently


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
