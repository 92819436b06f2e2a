"""The audit trail: who read or changed which case, and when. Append-only.

Each entry holds the SHA-256 of itself and of the entry before it (a linked time-stamp: Haber and Stornetta 1991), so
one that is altered or removed breaks every hash that follows. Whoever can rewrite the whole table can make a new chain;
hence the newest hash is logged, and `verify_trail` tells whether a hash noted earlier is still in the chain.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.domain import Caller
from shared.tables import AuditRow

CASE_READ = "case.read"
_GENESIS = "0" * 64
_CHAIN_LOCK = 0x61756474
"""An arbitrary number ("audt") that only those who add to the trail lock."""
_ADOPTED_AT_ONCE = 1000
_READ_AT_ONCE = 1000

# Used with every submission, so built once: `shared.store.case_rows` says why.
_TRAIL = AuditRow.__table__
_LOCK_CHAIN = select(func.pg_advisory_xact_lock(_CHAIN_LOCK))
_HEAD = (
    select(_TRAIL.c.position, _TRAIL.c.hash)
    .where(_TRAIL.c.position.is_not(None))
    .order_by(_TRAIL.c.position.desc())
    .limit(1)
)
_END = _HEAD.add_columns(select(_TRAIL.c.id).where(_TRAIL.c.position.is_(None)).exists().label("is_unchained_left"))
_ADD = insert(_TRAIL)


@dataclass(frozen=True)
class Actor:
    """Who did something without a key: a worker, the housekeeping, an operator at the command line."""

    role: str
    key_id: UUID | None = None
    clinic_id: UUID | None = None


WORKER, HOUSEKEEPING, OPERATOR = Actor("worker"), Actor("housekeeping"), Actor("operator")


@dataclass(frozen=True)
class _Entry:
    """What an entry's hash covers, with the hash before it."""

    at: datetime
    action: str
    key_id: UUID | None
    role: str | None
    clinic_id: UUID | None
    case_id: UUID | None
    position: int


@dataclass(frozen=True)
class AuditEntry(_Entry):
    """An entry. `key_id` is None for what was done without a key, `case_id` for what concerned no case."""

    hash: str


@dataclass(frozen=True)
class TrailReport:
    """What `verify_trail` found. `faults` are sentences; `head` is the newest entry's hash."""

    entries: int
    head: str
    faults: Sequence[str]


def audit(session: Session, actor: Caller | Actor, action: str, case_ids: Sequence[UUID | None], now: datetime) -> None:
    """Record that this actor did `action` to these cases (None: to no case). Call it last in a transaction.

    A caller waits until the transaction of the previous one has ended: the chain has one end.
    """
    if not case_ids:
        return
    if session.get_bind().dialect.name == "postgresql":  # SQLite has one writer at a time anyway
        session.execute(_LOCK_CHAIN)
    position, previous = _adopt_unchained(session)
    rows = []
    for case_id in case_ids:
        position += 1
        entry = _Entry(now, action, actor.key_id, actor.role, actor.clinic_id, case_id, position)
        previous = _hash(entry, previous)
        rows.append(vars(entry) | {"hash": previous})
    session.execute(_ADD, rows)


@contextmanager
def audited(
    database: Database, actor: Caller | Actor, action: str, case_id: UUID | None = None
) -> Iterator[tuple[Session, datetime]]:
    """Run a transaction, yielded with the database's time, that ends by recording that this actor did `action`.

    An exception rolls back both the change and the record.
    """
    with database.writing() as session:
        now = read_clock(session)
        yield session, now
        audit(session, actor, action, [case_id], now)


def find_unread(session: Session | Connection, caller: Caller, case_ids: Sequence[UUID]) -> list[UUID]:
    """Return those of the cases that this key has not read, by the trail."""
    read = session.scalars(
        select(AuditRow.case_id).where(
            AuditRow.case_id.in_(case_ids), AuditRow.key_id == caller.key_id, AuditRow.action == CASE_READ
        )
    )
    known = set(read)
    return [case_id for case_id in case_ids if case_id not in known]


def list_entries(session: Session, case_id: UUID | None, before: int | None, limit: int) -> Sequence[AuditEntry]:
    """Return at most `limit` entries, newest first; `before` is the position of the previous page's last one."""
    query = select(AuditRow).where(AuditRow.position.is_not(None)).order_by(AuditRow.position.desc()).limit(limit)
    if case_id is not None:
        query = query.where(AuditRow.case_id == case_id)
    if before is not None:
        query = query.where(AuditRow.position < before)
    return [
        AuditEntry(row.at, row.action, row.key_id, row.role, row.clinic_id, row.case_id, row.position, row.hash)
        for row in session.scalars(query)
    ]


def read_head(session: Session) -> tuple[int, str]:
    """Return the newest entry's position and hash."""
    head = session.execute(_HEAD).first()
    return (0, _GENESIS) if head is None else (head.position, head.hash)


def verify_trail(session: Session, expected_head: str | None = None) -> TrailReport:
    """Recompute every hash and report where the chain is broken.

    expected_head: a hash noted earlier. If it is not in the chain, what led to it was rewritten.
    """
    position, previous, faults = 0, _GENESIS, []
    head_found = expected_head in (None, _GENESIS)
    chained = select(AuditRow).where(AuditRow.position.is_not(None)).order_by(AuditRow.position)
    for row in session.scalars(chained.execution_options(yield_per=_READ_AT_ONCE)):
        position += 1
        if row.position != position:
            faults.append(f"Entries {position} to {row.position - 1} are missing.")
            position, previous = row.position, None
        if previous is not None and row.hash != _hash(row, previous):
            faults.append(f"Entry {position} does not match the entry before it: one of the two was altered.")
        previous = row.hash
        head_found |= row.hash == expected_head
    if not head_found:
        faults.append("The expected hash is not in the chain: entries at its end were removed, or all were rewritten.")
    return TrailReport(position, previous or _GENESIS, faults)


def _adopt_unchained(session: Session) -> tuple[int, str]:
    """Chain entries added by a version without the chain; return the position and hash of the chain's end."""
    end = session.execute(_END).first()
    if end is not None and not end.is_unchained_left:
        return end.position, end.hash
    position, previous = read_head(session)
    unchained = select(AuditRow).where(AuditRow.position.is_(None)).order_by(AuditRow.id).limit(_ADOPTED_AT_ONCE)
    for row in session.scalars(unchained):
        position += 1
        row.position = position
        previous = row.hash = _hash(row, previous)
    return position, previous


def _hash(row: AuditRow | _Entry, previous: str) -> str:
    fields = [previous, row.position, row.at.astimezone(UTC).isoformat(), row.action]
    fields += [None if value is None else str(value) for value in (row.key_id, row.role, row.clinic_id, row.case_id)]
    return hashlib.sha256(json.dumps(fields).encode()).hexdigest()
