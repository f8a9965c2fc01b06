"""The ledger on SQLite: the contract, and what is said when the database cannot be used."""

import socket
import sqlite3
import time
from pathlib import Path
from threading import Timer

import pytest

from infra.errors import Coded, Corrupt, Denied, Unreachable
from infra.ledger import Ledger
from tests.infra.ledger_contract import LedgerContract


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/new/folder/ledger.db"


class TestOnSQLite(LedgerContract):
    pass


def test_nothing_is_opened_or_made_before_first_use(tmp_path: Path) -> None:
    Ledger(f"sqlite:///{tmp_path}/new/ledger.db")
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_does_not_answer_is_named_without_its_password() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(Unreachable) as caught:
            Ledger(f"postgresql://vernal:s3cret@127.0.0.1:{port}/vernal").champion("intent")
    assert caught.value.code == "E-SQL-UNAVAILABLE"
    assert f"127.0.0.1:{port}" in caught.value.message
    assert "s3cret" not in caught.value.message


@pytest.mark.parametrize("url", ["", "sqlite://", "mysql://vernal:s3cret@host/vernal", "no url at all s3cret"])
def test_an_unusable_url_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(Coded) as caught:
        Ledger(url).champion("intent")
    assert caught.value.code == "E-SQL-URL"
    assert "s3cret" not in caught.value.message


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    file.write_bytes(b"not a database, but a page of text\n" * 100)
    with pytest.raises(Corrupt) as caught:
        Ledger(f"sqlite:///{file}").champion("intent")
    assert caught.value.code == "E-SQL-CORRUPT"
    assert file.read_bytes().startswith(b"not a database")


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Denied) as caught:
        Ledger(f"sqlite:///{tmp_path}/file/ledger.db").champion("intent")
    assert caught.value.code == "E-SQL-DENIED"


def test_a_locked_database_is_waited_for_and_read_meanwhile(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    assert ledger.champion("intent") is None
    other = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    release = Timer(0.3, lambda: other.execute("COMMIT"))
    release.start()
    start = time.monotonic()
    assert ledger.models() == []
    with ledger.lease("intent", patience=0) as lease:
        assert time.monotonic() - start >= 0.3
        assert lease.epoch == 1
    release.join()
