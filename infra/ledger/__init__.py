"""Leases, decisions and causes: the one place where "exactly once" is kept. The only SQL of the project.

`leases` says who may act on a name, under an epoch that grows with every new holder. `decisions` says what went live,
`requests` which version waits for a person's word, `rollouts` which decision's version was read back and may be served:
each row is appended in the transaction that also proves that the lease is still held; rows are never changed, and the
database itself refuses to. A holder that was paused, overtaken and woken is stopped at that point (fencing).
`causes` says why runs were started, each cause once, and is appended to in the same way, without a lease.

    tables     what is kept
    database   how it is reached, and given up
    leases     who may act

SQLite serves one host; PostgreSQL serves many. Object stores answer conditional writes differently and are no lock.
"""

from contextlib import suppress
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from infra.ledger.database import again
from infra.ledger.leases import Leases
from infra.ledger.tables import (
    CAUSES,
    DECISIONS,
    LIVE,
    REQUESTS,
    ROLLOUTS,
    Cause,
    Decision,
    Kind,
    Lease,
    Request,
    Rollout,
    newest,
    said,
)

__all__ = ["LIVE", "Cause", "Decision", "Kind", "Lease", "Ledger", "Request", "Rollout"]


class Ledger(Leases):
    """Leases, decisions and causes in the database behind a SQLAlchemy URL.

    Opens nothing until first use, then makes folder and tables if they are not there. Every method raises `Unreachable`
    when the database does not answer three times and `Denied` when it refuses us.
    """

    @again
    def decide(self, lease: Lease, *, model: str, version: int, kind: Kind, key: str, body: dict[str, Any]) -> Decision:
        """Append one decision, if `lease` is still held; the same (model, key, kind) again returns the row there is.

        One lease name per model keeps `previous` true. Raises E-FENCED when somebody else took the lease.
        """
        with self._under(lease) as connection:
            same = (DECISIONS.c.model == model, DECISIONS.c.key == key, DECISIONS.c.kind == kind)
            if row := connection.execute(select(DECISIONS).where(*same)).mappings().first():
                return Decision.of(row)
            values = {
                **said(model, body),
                "version": version,
                "previous": connection.scalar(newest(DECISIONS.c.version, model)),
                "kind": kind,
                "key": key,
                "epoch": lease.epoch,
            }
            connection.execute(insert(DECISIONS).values(values))
            return Decision.of(connection.execute(select(DECISIONS).where(*same)).mappings().one())

    @again
    def ask(self, lease: Lease, *, model: str, version: int, key: str, body: dict[str, Any]) -> Request:
        """Append a request for a person's word, if `lease` is still held; the same (model, key) again returns the row
        there is. Raises E-FENCED when somebody else took the lease."""
        values = {**said(model, body), "version": version, "key": key, "epoch": lease.epoch}
        with self._under(lease) as connection:
            same = select(REQUESTS).where(REQUESTS.c.model == model, REQUESTS.c.key == key)
            if connection.execute(same).first() is None:
                connection.execute(insert(REQUESTS).values(values))
            return Request.of(connection.execute(same).mappings().one())

    @again
    def asked(self, model: str) -> list[Request]:
        """The requests about `model` that nobody has decided yet, oldest first."""
        decided = select(DECISIONS.c.key).where(DECISIONS.c.model == model)
        query = select(REQUESTS).where(REQUESTS.c.model == model, REQUESTS.c.key.not_in(decided))
        with self._read() as connection:
            return [Request.of(row) for row in connection.execute(query.order_by(REQUESTS.c.id)).mappings()]

    @again
    def roll_out(self, lease: Lease, decision: Decision, body: dict[str, Any]) -> Rollout | None:
        """Mark what `decision` made the champion as deployable, if `lease` is still held: once, then the row there is.

        None: a later decision took its place before it was marked. Raises E-FENCED when somebody else took the lease.
        """
        about = {"version": decision.version, "decision": decision.id, "epoch": lease.epoch}
        with self._under(lease) as connection:
            same = select(ROLLOUTS).where(ROLLOUTS.c.decision == decision.id)
            if connection.execute(same).first() is None:
                if connection.scalar(newest(DECISIONS.c.id, decision.model)) != decision.id:
                    return None
                connection.execute(insert(ROLLOUTS).values({**said(decision.model, body), **about}))
            return Rollout.of(connection.execute(same).mappings().one())

    @again
    def rollouts(self, model: str) -> list[Rollout]:
        """All decisions about `model` whose versions were marked as deployable, oldest first."""
        query = select(ROLLOUTS).where(ROLLOUTS.c.model == model).order_by(ROLLOUTS.c.id)
        with self._read() as connection:
            return [Rollout.of(row) for row in connection.execute(query).mappings()]

    @again
    def live(self, model: str) -> Decision | None:
        """The decision that made the champion; None: there was none yet."""
        query = select(DECISIONS).where(DECISIONS.c.id == newest(DECISIONS.c.id, model).scalar_subquery())
        with self._read() as connection:
            row = connection.execute(query).mappings().first()
            return Decision.of(row) if row else None

    @again
    def decisions(self, model: str) -> list[Decision]:
        """All decisions about `model`, oldest first."""
        query = select(DECISIONS).where(DECISIONS.c.model == model).order_by(DECISIONS.c.id)
        with self._read() as connection:
            return [Decision.of(row) for row in connection.execute(query).mappings()]

    @again
    def champion(self, model: str) -> int | None:
        """The version that is live by the last decision; None: there was none yet."""
        with self._read() as connection:
            return connection.scalar(newest(DECISIONS.c.version, model))

    @again
    def previous(self, model: str) -> int | None:
        """The champion before this one: where a rollback leads, and after a rollback the one just left."""
        with self._read() as connection:
            query = newest(DECISIONS.c.version, model)
            return connection.scalar(query.where(DECISIONS.c.version != query.correlate(None).scalar_subquery()))

    @again
    def models(self) -> list[str]:
        """Names that were ever decided about, or wait for it, sorted."""
        with self._read() as connection:
            return sorted(connection.scalars(select(DECISIONS.c.model).union(select(REQUESTS.c.model))))

    @again
    def note(self, model: str, key: str, body: dict[str, Any]) -> Cause:
        """Append a cause; the same (model, key) again returns the row there is."""
        values = {**said(model, body), "key": key}
        with suppress(IntegrityError), self._write() as connection:  # it was noted before
            connection.execute(insert(CAUSES).values(values))
        with self._read() as connection:
            query = select(CAUSES).where(CAUSES.c.model == model, CAUSES.c.key == key)
            return Cause.of(connection.execute(query).mappings().one())

    @again
    def causes(self, model: str) -> list[Cause]:
        """All causes of runs of `model`, oldest first."""
        query = select(CAUSES).where(CAUSES.c.model == model).order_by(CAUSES.c.id)
        with self._read() as connection:
            return [Cause.of(row) for row in connection.execute(query).mappings()]
