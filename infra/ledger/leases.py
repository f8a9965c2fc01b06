"""Who may act on a name, under an epoch that grows with every new holder.

A lease ends when its holder has not been seen to renew it for `EXPIRY` seconds of the observer's own monotonic clock:
wall clocks of two machines are never compared. The price: a killed holder keeps others waiting for 10 s.
"""

import logging
import math
import os
import secrets
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from infra.errors import Coded
from infra.ledger.database import Database, again
from infra.ledger.tables import LEASES, Lease

EXPIRY = 10.0  # seconds without a renewal after which a lease may be taken over
RENEWAL = 3.0  # seconds between two renewals
QUIET = 2.0  # seconds of waiting for a lease before it is said

log = logging.getLogger("vernal.ledger")


class Leases(Database):
    """Leases in a database; a holder that was paused, overtaken and woken writes nothing (fencing)."""

    def __init__(self, url: str, *, expiry: float = EXPIRY, renewal: float = RENEWAL) -> None:
        super().__init__(url)
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

    @again
    def _beats(self, names: Iterable[str]) -> dict[str, tuple[int, int]]:
        """Epoch and beat of the leases that somebody holds."""
        columns = (LEASES.c.name, LEASES.c.epoch, LEASES.c.beat)
        with self._read() as connection:
            held = connection.execute(select(*columns).where(LEASES.c.name.in_(list(names)), LEASES.c.holder != ""))
            return {name: (epoch, beat) for name, epoch, beat in held}

    @contextmanager
    def _under(self, lease: Lease) -> Iterator[Connection]:
        """A transaction in which `lease` is held, or E-FENCED."""
        with self._write() as connection:
            if connection.execute(_held(lease).values(beat=LEASES.c.beat + 1)).rowcount == 0:
                raise self._fenced(lease, connection)
            yield connection

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

    @again
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

    @again
    def _take(self, row: dict[str, Any], me: str) -> bool:
        """Make the lease ours if it still stands as we saw it."""
        unchanged = [LEASES.c[column] == value for column, value in row.items()]
        with self._write() as connection:
            taken = update(LEASES).where(*unchanged).values(epoch=row["epoch"] + 1, holder=me, beat=row["beat"] + 1)
            return connection.execute(taken).rowcount == 1

    @again
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


def _held(lease: Lease) -> Any:
    """An UPDATE that touches a row only while `lease` is held."""
    ours = (LEASES.c.name == lease.name, LEASES.c.epoch == lease.epoch, LEASES.c.holder == lease.holder)
    return update(LEASES).where(*ours)
