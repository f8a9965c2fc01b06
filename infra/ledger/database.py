"""The database behind the ledger: opened once, asked again where it does not answer, given up where it falls silent."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, wraps
from pathlib import Path
from select import POLLIN, POLLOUT, poll
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, inspect, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from infra.errors import Coded, Corrupt, Denied, Unreachable
from infra.ledger.tables import TABLES

PATIENCE = 20  # seconds that a statement waits for another's lock
TRIES = 3  # of what the database did not answer
PAUSE = 0.2  # seconds before the second, twice as many before the third
SILENCE = 25.0  # seconds that a server may be silent; more than PATIENCE, which it may wait

P = ParamSpec("P")
T = TypeVar("T")


def again(method: Callable[P, T]) -> Callable[P, T]:
    """Tried again where the database does not answer: all that is asked of a ledger may be asked twice.

    Not where it fell silent: who waited that long is told so.
    """

    @wraps(method)
    def tried(*args: P.args, **kwargs: P.kwargs) -> T:
        begun = time.monotonic()
        for pause in (PAUSE * 2**number for number in range(TRIES - 1)):
            try:
                return method(*args, **kwargs)
            except Unreachable:
                if time.monotonic() - begun > SILENCE / 2:
                    raise
                time.sleep(pause)
        return method(*args, **kwargs)

    return tried


class Database:
    """SQLite or PostgreSQL behind a SQLAlchemy URL; folder and tables are made at first use.

    Raises `Unreachable` where it does not answer, `Denied` where it refuses us, `Corrupt` where its file is damaged.
    """

    def __init__(self, url: str) -> None:
        self._given = url

    @contextmanager
    def _read(self) -> Iterator[Connection]:
        with self._sorted(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _write(self) -> Iterator[Connection]:
        """A transaction. Its first statement must be the one that writes: it takes the lock on which all others wait
        (SQLite: of the file, by BEGIN IMMEDIATE; PostgreSQL: of the row)."""
        with self._sorted(), self._engine.begin() as connection:
            yield connection

    @cached_property
    def _engine(self) -> Engine:
        try:
            url = make_url(self._given.replace("postgres://", "postgresql://", 1))
            if url.drivername == "postgresql":
                url = url.set(drivername="postgresql+psycopg2")
            if url.get_backend_name() == "sqlite" and url.database:
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
                engine = create_engine(url, connect_args={"timeout": PATIENCE, "isolation_level": "IMMEDIATE"})
            elif url.get_backend_name() == "postgresql":
                _bounded()
                engine = create_engine(url, pool_pre_ping=True)
                event.listen(engine, "connect", _impatient)
            else:
                raise ArgumentError("neither SQLite nor PostgreSQL")
        except (ArgumentError, ImportError) as error:
            raise Coded(
                "E-SQL-URL",
                f"the ledger's URL cannot be used: {_line(error)}; wanted: sqlite:///folder/ledger.db or "
                f"postgresql://user:password@host/database; set VERNAL_LEDGER",
            ) from None
        except OSError as error:
            raise Denied(
                "E-SQL-DENIED", f"ledger folder {error.filename}: {error.strerror}; make it writable"
            ) from None
        if not set(TABLES.tables) <= set(inspect(engine).get_table_names()):  # none, or those of an older version
            _create(engine)
        return engine

    @contextmanager
    def _sorted(self) -> Iterator[None]:
        """Database errors by their remedy."""
        try:
            yield
        except IntegrityError:
            raise
        except DBAPIError as error:
            where = make_url(self._given).render_as_string(hide_password=True)
            found = _line(error.orig)
            if any(word in found for word in ("authentication failed", "permission denied", "readonly")):
                raise Denied("E-SQL-DENIED", f"ledger {where} refuses us: {found}; mend user or rights") from error
            if "not a database" in found or "malformed" in found:
                raise Corrupt("E-SQL-CORRUPT", f"ledger {where}: {found}; put a backup of the file back") from error
            down = isinstance(error, OperationalError | InterfaceError) or error.connection_invalidated
            how = "does not answer" if down else "does not answer as it should"
            raise Unreachable(
                "E-SQL-UNAVAILABLE", f"ledger {where} {how}: {found[:500]}; start it or mend VERNAL_LEDGER"
            ) from error


def _create(engine: Engine) -> None:
    """Make the tables that are missing, with their triggers, in one transaction, whoever else does so now."""
    alone = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(7310862)"}
    with engine.begin() as connection:
        connection.exec_driver_sql(alone[engine.dialect.name])
        TABLES.create_all(connection)


def _bounded() -> None:
    """From here on psycopg2, which only we use in this process, waits for no server longer than SILENCE.

    It has no such limit of its own: a server that vanishes without a word would be waited for as long as TCP lives, and
    a proxy keeps that alive for ever. A connection that was given up is closed.
    """
    from psycopg2 import extensions

    extensions.set_wait_callback(_wait)


def _wait(connection: Any) -> None:
    """Returns when the server has done what was asked of it; how psycopg2 wants it done."""
    from psycopg2 import OperationalError as Silent
    from psycopg2.extensions import POLL_OK, POLL_READ

    while (wanted := connection.poll()) != POLL_OK:
        watched = poll()
        watched.register(connection.fileno(), POLLIN if wanted == POLL_READ else POLLOUT)
        if not watched.poll(SILENCE * 1000):
            raise Silent(f"not a word in {SILENCE:.0f} s")


def _impatient(connection: Any, _record: Any) -> None:
    """A paused holder of a PostgreSQL lock keeps others waiting for seconds, not for ever."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{PATIENCE}s'; SET idle_in_transaction_session_timeout = '{PATIENCE}s'")
    connection.commit()


def _line(error: object) -> str:
    return " ".join(str(error).split())
