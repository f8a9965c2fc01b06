"""What the ledger keeps. All tables but the leases are append-only, by the database's own word."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self

from sqlalchemy import (
    DDL,
    CheckConstraint,
    Column,
    Integer,
    MetaData,
    RowMapping,
    Select,
    String,
    Table,
    Text,
    UniqueConstraint,
    event,
    select,
)

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


def _appended(name: str, *columns: Column[Any] | UniqueConstraint | CheckConstraint) -> Table:
    """A table whose rows say something about a model, and are never changed."""
    table = Table(
        name,
        TABLES,
        Column("id", Integer, primary_key=True),
        Column("at", String(32), nullable=False),
        Column("model", String(200), nullable=False, index=True),
        *columns,
        Column("body", Text, nullable=False),
        sqlite_autoincrement=True,
    )
    for verb in ("UPDATE", "DELETE"):
        trigger = DDL(  # type: ignore[no-untyped-call]
            f"CREATE TRIGGER {name}_no_{verb.lower()} BEFORE {verb} ON {name} "
            f"BEGIN SELECT RAISE(ABORT, '{name} are append-only'); END"
        )
        event.listen(table, "after_create", trigger.execute_if(dialect="sqlite"))
    for statement in (
        f"CREATE OR REPLACE FUNCTION {name}_append_only() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{name} are append-only'; END $$",
        f"CREATE TRIGGER {name}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {name} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {name}_append_only()",
    ):
        function = DDL(statement)  # type: ignore[no-untyped-call]
        event.listen(table, "after_create", function.execute_if(dialect="postgresql"))
    return table


DECISIONS = _appended(
    "decisions",
    Column("version", Integer, nullable=False),
    Column("previous", Integer),
    Column("kind", String(20), nullable=False),
    Column("key", String(200), nullable=False),
    Column("epoch", Integer, nullable=False),
    UniqueConstraint("model", "key", "kind"),
    CheckConstraint("kind IN ('promoted', 'refused', 'rolled-back')", "decisions_kind"),
)
REQUESTS = _appended(
    "requests",
    Column("version", Integer, nullable=False),
    Column("key", String(200), nullable=False),
    Column("epoch", Integer, nullable=False),
    UniqueConstraint("model", "key"),
)
ROLLOUTS = _appended(
    "rollouts",
    Column("version", Integer, nullable=False),
    Column("decision", Integer, nullable=False, unique=True),
    Column("epoch", Integer, nullable=False),
)
CAUSES = _appended(
    "causes",
    Column("key", String(200), nullable=False),
    UniqueConstraint("model", "key"),
)


@dataclass(frozen=True)
class Lease:
    """The right to act on `name`, as long as nobody holds it under a later epoch."""

    name: str
    epoch: int
    holder: str


@dataclass(frozen=True, kw_only=True)
class Said:
    """A row about a model."""

    id: int
    at: str
    model: str
    body: dict[str, Any]

    @classmethod
    def of(cls, row: RowMapping) -> Self:
        """What the database keeps, as it was said."""
        return cls(**{**row, "body": json.loads(row["body"])})


@dataclass(frozen=True, kw_only=True)
class Decision(Said):
    """What was decided about a version of a model, and who was champion before."""

    version: int
    previous: int | None
    kind: Kind
    key: str
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Request(Said):
    """A version that waits for a person's word."""

    version: int
    key: str
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Rollout(Said):
    """The version of a live decision, read back and found to be the one that was examined."""

    version: int
    decision: int
    epoch: int


@dataclass(frozen=True, kw_only=True)
class Cause(Said):
    """Why a run of a model was started, noted once it was."""

    key: str


def newest(column: Any, model: str) -> Select[tuple[int]]:
    """A column of the newest decision that made a version champion."""
    live = (DECISIONS.c.model == model, DECISIONS.c.kind.in_(LIVE))
    return select(column).where(*live).order_by(DECISIONS.c.id.desc()).limit(1)


def said(model: str, body: dict[str, Any]) -> dict[str, Any]:
    """What every row about a model begins with, written now."""
    text = json.dumps(body, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return {"at": datetime.now(UTC).isoformat(timespec="milliseconds"), "model": model, "body": text}
