"""The ledger on a real PostgreSQL: the same contract, a restart in the middle, a wrong password."""

import pytest
from sqlalchemy import create_engine, make_url, text

from infra.errors import Denied, Unreachable
from infra.ledger import Ledger
from infra.local.postgres import LocalPostgres
from tests.infra.ledger_contract import LedgerContract

pytestmark = pytest.mark.services


@pytest.fixture
def url(postgres_url: str) -> str:
    """The server's database, emptied."""
    with create_engine(postgres_url.replace("postgresql:", "postgresql+psycopg2:")).begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS decisions, leases"))
    return postgres_url


class TestOnPostgreSQL(LedgerContract):
    pass


def test_a_lease_outlives_a_restart_of_the_server(url: str, postgres: LocalPostgres) -> None:
    ledger = Ledger(url, expiry=10, renewal=0.1)
    with ledger.lease("intent") as lease:
        made = ledger.decide(lease, model="intent", version=1, kind="promoted", key="before", body={})
        postgres.stop()
        with pytest.raises(Unreachable, match="E-SQL-UNAVAILABLE"):
            ledger.champion("intent")
        postgres.start()
        after = ledger.decide(lease, model="intent", version=2, kind="promoted", key="after", body={})
    assert ledger.decisions("intent") == [made, after]
    assert (after.epoch, after.previous) == (1, 1)
    with ledger.lease("intent", patience=0) as following:
        assert following.epoch == 2


def test_a_wrong_password_is_denied_and_not_shown(url: str) -> None:
    wrong = make_url(url).set(password="s3cret").render_as_string(hide_password=False)
    with pytest.raises(Denied) as caught:
        Ledger(wrong).champion("intent")
    assert caught.value.code == "E-SQL-DENIED"
    assert "s3cret" not in caught.value.message
