"""Leases, decisions and causes: the one place where "exactly once" is kept. The only SQL of the project.

`leases` says who may act on a name, under an epoch that grows with every new holder. `decisions` says what went live,
`requests` which version waits for a person's word, `rollouts` which decision's version was read back and may be served:
each row is appended in the transaction that also proves that the lease is still held; rows are never changed, and the
database itself refuses to. A holder that was paused, overtaken and woken is stopped at that point (fencing).
`causes` says why runs were started, each cause once, and is appended to in the same way, without a lease.

A lease ends when its holder has not been seen to renew it for `EXPIRY` seconds of the observer's own monotonic clock:
wall clocks of two machines are never compared. The price: a killed holder keeps others waiting for 10 s.

SQLite serves one host; PostgreSQL serves many. Object stores answer conditional writes differently and are no lock.
"""

import json
import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, wraps
from pathlib import Path
from select import POLLIN, POLLOUT, poll
from threading import Event, Thread
from typing import Any, Literal, ParamSpec, TypeVar

from sqlalchemy import (
    DDL,
    CheckConstraint,
    Column,
    Connection,
    Engine,
    Integer,
    MetaData,
    RowMapping,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    create_engine,
    event,
    insert,
    inspect,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, InterfaceError, OperationalError

from infra.errors import Coded, Corrupt, Denied, Unreachable

EXPIRY = 10.0  # seconds without a renewal after which a lease may be taken over
RENEWAL = 3.0  # seconds between two renewals
PATIENCE = 20  # seconds that a statement waits for another's lock
TRIES = 3  # of what the database did not answer
PAUSE = 0.2  # seconds before the second, twice as many before the third
SILENCE = 25.0  # seconds that a server may be silent; more than PATIENCE, which it may wait
QUIET = 2.0  # seconds of waiting for a lease before it is said

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger("vernal.ledger")

Kind = Literal["promoted", "refused", "rolled-back"]
LIVE = ("promoted", "rolled-back")  # kinds that make a version the champion

TABLES = MetaData()
LEASES = Table(
    "leases",
    TABLES,
    Column("name", String(200), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("holder", String(200), nullable=False),
    Column("beat", Integer, nullable=False),
)
DECISIONS = Table(
    "decisions",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("model", String(200), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("kind", String(20), nullable=False),
    Column("key", String(200), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("model", "key", "kind"),
    CheckConstraint("kind IN ('promoted', 'refused', 'rolled-back')", "decisions_kind"),
    sqlite_autoincrement=True,
)

REQUESTS = Table(
    "requests",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("model", String(200), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("key", String(200), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("model", "key"),
    sqlite_autoincrement=True,
)
ROLLOUTS = Table(
    "rollouts",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("model", String(200), nullable=False, index=True),
    Column("version", Integer, nullable=False),
    Column("decision", Integer, nullable=False, unique=True),
    Column("epoch", Integer, nullable=False),
    Column("body", Text, nullable=False),
    sqlite_autoincrement=True,
)
CAUSES = Table(
    "causes",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("at", String(32), nullable=False),
    Column("model", String(200), nullable=False, index=True),
    Column("key", String(200), nullable=False),
    Column("body", Text, nullable=False),
    UniqueConstraint("model", "key"),
    sqlite_autoincrement=True,
)

for table in (DECISIONS.name, REQUESTS.name, ROLLOUTS.name, CAUSES.name):
    for verb in ("UPDATE", "DELETE"):
        trigger = DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"
        )
        event.listen(TABLES.tables[table], "after_create", trigger.execute_if(dialect="sqlite"))
    for statement in (
        f"CREATE OR REPLACE FUNCTION {table}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{table} are append-only'; END $$",
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {table}_append_only()",
    ):
        function = DDL(statement)  # type: ignore[no-untyped-call]
        event.listen(TABLES.tables[table], "after_create", function.execute_if(dialect="postgresql"))


@dataclass(frozen=True)
class Lease:
    """The right to act on `name`, as long as nobody holds it under a later epoch."""

    name: str
    epoch: int
    holder: str


@dataclass(frozen=True)
class Decision:
    """What was decided about a version of a model, and who was champion before."""

    id: int
    at: str
    model: str
    version: int
    previous: int | None
    kind: Kind
    key: str
    epoch: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Request:
    """A version that waits for a person's word."""

    id: int
    at: str
    model: str
    version: int
    key: str
    epoch: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Rollout:
    """The version of a live decision, read back and found to be the one that was examined."""

    id: int
    at: str
    model: str
    version: int
    decision: int
    epoch: int
    body: dict[str, Any]


@dataclass(frozen=True)
class Cause:
    """Why a run of a model was started, noted once it was."""

    id: int
    at: str
    model: str
    key: str
    body: dict[str, Any]


def _again(method: Callable[P, T]) -> Callable[P, T]:
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


class Ledger:
    """Leases, decisions and causes in the database behind a SQLAlchemy URL.

    Opens nothing until first use, then makes folder and tables if they are not there. Every method raises `Unreachable`
    when the database does not answer three times and `Denied` when it refuses us.
    """

    def __init__(self, url: str, *, expiry: float = EXPIRY, renewal: float = RENEWAL) -> None:
        self._given = url
        self._expiry = expiry
        self._renewal = renewal

    @contextmanager
    def lease(self, name: str, *, patience: float = 60.0) -> Iterator[Lease]:
        """Hold `name` alone; renewed in the background until the block ends.

        Waits up to `patience` seconds, or with `math.inf` as long as it takes, then raises E-LEASE-HELD.
        """
        lease = self._acquire(name, patience)
        done = Event()
        renewal = Thread(target=self._renew, args=(lease, done), name=f"lease {name}", daemon=True)
        renewal.start()
        try:
            yield lease
        finally:
            done.set()
            renewal.join()
            with suppress(Coded):  # left to expire if that fails
                self._let_go(lease)

    @_again
    def decide(self, lease: Lease, *, model: str, version: int, kind: Kind, key: str, body: dict[str, Any]) -> Decision:
        """Append one decision, if `lease` is still held; the same (model, key, kind) again returns the row there is.

        One lease name per model keeps `previous` true. Raises E-FENCED when somebody else took the lease.
        """
        text = _text(body)
        with self._under(lease) as connection:
            same = (DECISIONS.c.model == model, DECISIONS.c.key == key, DECISIONS.c.kind == kind)
            if row := connection.execute(select(DECISIONS).where(*same)).mappings().first():
                return _decision(row)
            values = {
                "at": _now(),
                "model": model,
                "version": version,
                "previous": connection.scalar(_champion(model)),
                "kind": kind,
                "key": key,
                "epoch": lease.epoch,
                "body": text,
            }
            connection.execute(insert(DECISIONS).values(values))
            return _decision(connection.execute(select(DECISIONS).where(*same)).mappings().one())

    @_again
    def ask(self, lease: Lease, *, model: str, version: int, key: str, body: dict[str, Any]) -> Request:
        """Append a request for a person's word, if `lease` is still held; the same (model, key) again returns the row
        there is. Raises E-FENCED when somebody else took the lease."""
        values = {"at": _now(), "model": model, "version": version, "key": key, "epoch": lease.epoch}
        with self._under(lease) as connection:
            same = select(REQUESTS).where(REQUESTS.c.model == model, REQUESTS.c.key == key)
            if connection.execute(same).first() is None:
                connection.execute(insert(REQUESTS).values(**values, body=_text(body)))
            return Request(**_read_body(connection.execute(same).mappings().one()))

    @_again
    def asked(self, model: str) -> list[Request]:
        """The requests about `model` that nobody has decided yet, oldest first."""
        decided = select(DECISIONS.c.key).where(DECISIONS.c.model == model)
        query = select(REQUESTS).where(REQUESTS.c.model == model, REQUESTS.c.key.not_in(decided))
        with self._read() as connection:
            return [Request(**_read_body(row)) for row in connection.execute(query.order_by(REQUESTS.c.id)).mappings()]

    @_again
    def roll_out(self, lease: Lease, decision: Decision, body: dict[str, Any]) -> Rollout | None:
        """Mark what `decision` made the champion as deployable, if `lease` is still held: once, then the row there is.

        None: a later decision took its place before it was marked. Raises E-FENCED when somebody else took the lease.
        """
        values = {"at": _now(), "model": decision.model, "version": decision.version, "decision": decision.id}
        with self._under(lease) as connection:
            same = select(ROLLOUTS).where(ROLLOUTS.c.decision == decision.id)
            if connection.execute(same).first() is None:
                if connection.scalar(_newest(DECISIONS.c.id, decision.model)) != decision.id:
                    return None
                connection.execute(insert(ROLLOUTS).values(**values, epoch=lease.epoch, body=_text(body)))
            return Rollout(**_read_body(connection.execute(same).mappings().one()))

    @_again
    def rollouts(self, model: str) -> list[Rollout]:
        """All decisions about `model` whose versions were marked as deployable, oldest first."""
        query = select(ROLLOUTS).where(ROLLOUTS.c.model == model).order_by(ROLLOUTS.c.id)
        with self._read() as connection:
            return [Rollout(**_read_body(row)) for row in connection.execute(query).mappings()]

    @_again
    def live(self, model: str) -> Decision | None:
        """The decision that made the champion; None: there was none yet."""
        query = select(DECISIONS).where(DECISIONS.c.id == _newest(DECISIONS.c.id, model).scalar_subquery())
        with self._read() as connection:
            row = connection.execute(query).mappings().first()
            return _decision(row) if row else None

    def alive(self, names: Iterable[str]) -> set[str]:
        """Those of `names` whose lease somebody holds and renews; takes none, and watches for `EXPIRY` seconds at most.

        A holder is alive when its row changes while it is watched: no clock but our own is asked.
        """
        wanted, living = set(names), set[str]()
        seen = self._beats(wanted)
        until = time.monotonic() + self._expiry
        while (unsure := seen.keys() - living) and time.monotonic() < until:
            time.sleep(self._expiry / 20)
            now = self._beats(unsure)
            living |= {name for name in now if now[name] != seen[name]}
            seen = {name: row for name, row in seen.items() if name in living or name in now}
        return living

    @_again
    def _beats(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Epoch and beat of the leases that somebody holds."""
        columns = (LEASES.c.name, LEASES.c.epoch, LEASES.c.beat)
        with self._read() as connection:
            held = connection.execute(select(*columns).where(LEASES.c.name.in_(list(names)), LEASES.c.holder != ""))
            return {name: (epoch, beat) for name, epoch, beat in held}

    @_again
    def decisions(self, model: str) -> list[Decision]:
        """All decisions about `model`, oldest first."""
        query = select(DECISIONS).where(DECISIONS.c.model == model).order_by(DECISIONS.c.id)
        with self._read() as connection:
            return [_decision(row) for row in connection.execute(query).mappings()]

    @_again
    def champion(self, model: str) -> int | None:
        """The version that is live by the last decision; None: there was none yet."""
        with self._read() as connection:
            return connection.scalar(_champion(model))

    @_again
    def previous(self, model: str) -> int | None:
        """The champion before this one: where a rollback leads, and after a rollback the one just left."""
        with self._read() as connection:
            query = _champion(model)
            return connection.scalar(query.where(DECISIONS.c.version != query.correlate(None).scalar_subquery()))

    @_again
    def models(self) -> list[str]:
        """Names that were ever decided about, or wait for it, sorted."""
        with self._read() as connection:
            return sorted(connection.scalars(select(DECISIONS.c.model).union(select(REQUESTS.c.model))))

    @_again
    def note(self, model: str, key: str, body: dict[str, Any]) -> Cause:
        """Append a cause; the same (model, key) again returns the row there is."""
        values = {"model": model, "key": key, "at": _now(), "body": _text(body)}
        with suppress(IntegrityError), self._write() as connection:  # it was noted before
            connection.execute(insert(CAUSES).values(values))
        with self._read() as connection:
            query = select(CAUSES).where(CAUSES.c.model == model, CAUSES.c.key == key)
            return _cause(connection.execute(query).mappings().one())

    @_again
    def causes(self, model: str) -> list[Cause]:
        """All causes of runs of `model`, oldest first."""
        query = select(CAUSES).where(CAUSES.c.model == model).order_by(CAUSES.c.id)
        with self._read() as connection:
            return [_cause(row) for row in connection.execute(query).mappings()]

    def _acquire(self, name: str, patience: float) -> Lease:
        me = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        start = changed = time.monotonic()
        seen, told = None, False
        while True:
            row = self._look(name)
            now = time.monotonic()
            if row != seen:
                seen, changed = row, now
            if row["holder"] == me:  # taken, and the answer was lost
                return Lease(name, row["epoch"], me)
            if row["holder"] == "" or now - changed >= self._expiry:
                if self._take(row, me):
                    return Lease(name, row["epoch"] + 1, me)
                continue
            left = start + patience - now
            if left <= 0:
                raise Coded("E-LEASE-HELD", self._occupied(row, patience))
            if now - start > QUIET and not told:
                wait = "as long as it takes" if patience == math.inf else f"up to {patience:.0f} s"
                log.warning("%r is held by %s; waiting %s for it", name, row["holder"], wait)
                told = True
            time.sleep(min(left, self._expiry / 20))

    @_again
    def _look(self, name: str) -> dict[str, Any]:
        """The row of a lease; a free one of epoch 0 is written if there is none."""
        query = select(LEASES).where(LEASES.c.name == name)
        with self._read() as connection:
            row = connection.execute(query).mappings().first()
        if row is not None:
            return dict(row)
        free = {"name": name, "epoch": 0, "holder": "", "beat": 0}
        with suppress(IntegrityError), self._write() as connection:  # another wrote it first
            connection.execute(insert(LEASES).values(free))
        return free

    @_again
    def _take(self, row: dict[str, Any], me: str) -> bool:
        """Make the lease ours if it still stands as we saw it."""
        unchanged = [LEASES.c[column] == value for column, value in row.items()]
        with self._write() as connection:
            taken = update(LEASES).where(*unchanged).values(epoch=row["epoch"] + 1, holder=me, beat=row["beat"] + 1)
            return connection.execute(taken).rowcount == 1

    @_again
    def _let_go(self, lease: Lease) -> None:
        with self._write() as connection:
            connection.execute(_held(lease).values(holder=""))

    def _renew(self, lease: Lease, done: Event) -> None:
        while not done.wait(self._renewal):
            with suppress(Coded), self._write() as connection:  # try again at the next beat; `decide` has the last word
                if connection.execute(_held(lease).values(beat=LEASES.c.beat + 1)).rowcount == 0:
                    return

    def _occupied(self, row: dict[str, Any], patience: float) -> str:
        return (
            f"lease {row['name']!r} is held by {row['holder']} (epoch {row['epoch']}) and was not let go in the "
            f"{patience:.0f} s that we waited; wanted: nobody else at work on it; wait for that run to end, or end it: "
            f"{self._expiry:.0f} s after its last renewal the lease is free to take"
        )

    def _fenced(self, lease: Lease, connection: Connection) -> Coded:
        row = connection.execute(select(LEASES).where(LEASES.c.name == lease.name)).mappings().one()
        return Coded(
            "E-FENCED",
            f"epoch {lease.epoch} of lease {lease.name!r} is over: now epoch {row['epoch']}, "
            f"held by {row['holder'] or 'nobody'}; wanted: a lease still held; nothing was written, this attempt stops "
            f"and whoever came after it goes on",
        )

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

    @contextmanager
    def _under(self, lease: Lease) -> Iterator[Connection]:
        """A transaction in which `lease` is held, or E-FENCED."""
        with self._write() as connection:
            if connection.execute(_held(lease).values(beat=LEASES.c.beat + 1)).rowcount == 0:
                raise self._fenced(lease, connection)
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


def _held(lease: Lease) -> Any:
    """An UPDATE that touches a row only while `lease` is held."""
    ours = (LEASES.c.name == lease.name, LEASES.c.epoch == lease.epoch, LEASES.c.holder == lease.holder)
    return update(LEASES).where(*ours)


def _champion(model: str) -> Select[tuple[int]]:
    return _newest(DECISIONS.c.version, model)


def _newest(column: Any, model: str) -> Select[tuple[int]]:
    """A column of the newest decision that made a version champion."""
    live = (DECISIONS.c.model == model, DECISIONS.c.kind.in_(LIVE))
    return select(column).where(*live).order_by(DECISIONS.c.id.desc()).limit(1)


def _decision(row: RowMapping) -> Decision:
    return Decision(**_read_body(row))


def _read_body(row: RowMapping) -> dict[str, Any]:
    return {**row, "body": json.loads(row["body"])}


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def _cause(row: RowMapping) -> Cause:
    return Cause(**_read_body(row))


def _line(error: object) -> str:
    return " ".join(str(error).split())
