"""Clinics and their keys."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Connection, bindparam, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.database import read_clock
from shared.domain import Caller, Role
from shared.errors import Conflict, NotAuthenticated, NotFound
from shared.tables import ApiKeyRow, CaseRow, ClinicRow

MOST_DAYS = 36_500
"""A hundred years. A date outside the years 1 to 9999 cannot be a key's expiry, and would crash the purge."""
MOST_CASES = 10_000_000
"""The highest waiting limit of a clinic; SQL's integers end before 2^31."""

_PREFIX_BYTES = 6
_SECRET_BYTES = 32
# Used with every request, so built once: `shared.store.case_rows` says why.
_KEYS, _CLINICS = ApiKeyRow.__table__, ClinicRow.__table__
_FIND_KEY = select(
    *(_KEYS.c[name] for name in ("id", "role", "clinic_id", "secret_sha256", "revoked_at", "expires_at"))
).where(_KEYS.c.prefix == bindparam("prefix"))
_READ_WAITING_LIMIT = select(_CLINICS.c.waiting_limit).where(_CLINICS.c.id == bindparam("clinic_id"))


@dataclass(frozen=True)
class Clinic:
    """A clinic. Without a `waiting_limit`, the setting's applies; without `retention_days`, cases are kept for ever."""

    id: UUID
    name: str
    created_at: datetime
    waiting_limit: int | None
    retention_days: int | None


@dataclass(frozen=True)
class Key:
    """A key without its secret. `state` is `valid`, `expired` or `revoked`; `last_used_at` is accurate to a minute."""

    id: UUID
    prefix: str
    role: Role
    clinic_id: UUID | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    state: str


@dataclass(frozen=True)
class MadeKey:
    """A key that has just been made: `key` is the whole of it and cannot be seen again."""

    id: UUID
    prefix: str
    key: str = field(repr=False)


def add_clinic(session: Session, name: str, now: datetime) -> UUID:
    """Register a clinic and return its id.

    Raises:
        Conflict: `clinic_exists`.
    """
    clinic_id = uuid4()
    session.add(ClinicRow(id=clinic_id, name=name, created_at=now))
    try:
        session.flush()
    except IntegrityError as error:
        raise Conflict("clinic_exists", f"There is already a clinic named {name!r}.") from error
    return clinic_id


def list_clinics(session: Session) -> Sequence[Clinic]:
    """Return every clinic, by name."""
    return [_to_clinic(row) for row in session.scalars(select(ClinicRow).order_by(ClinicRow.name))]


def name_clinics_of(session: Session, case_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the name of each case's clinic."""
    named = select(CaseRow.id, ClinicRow.name).join(ClinicRow, ClinicRow.id == CaseRow.clinic_id)
    return {row.id: row.name for row in session.execute(named.where(CaseRow.id.in_(case_ids)))}


def find_clinic(session: Session, name_or_id: str) -> UUID:
    """Return the id of the clinic with this name or id.

    Raises:
        NotFound: `clinic_not_found`.
    """
    for clinic in list_clinics(session):
        if name_or_id in (clinic.name, str(clinic.id)):
            return clinic.id
    raise NotFound("clinic_not_found", f"There is no clinic {name_or_id!r}. Add it with `dermqueue clinic add`.")


def read_clinic(session: Session, clinic_id: UUID) -> Clinic:
    """Return a clinic.

    Raises:
        NotFound: `clinic_not_found`.
    """
    row = session.get(ClinicRow, clinic_id)
    if row is None:
        raise NotFound("clinic_not_found", "There is no such clinic.")
    return _to_clinic(row)


def read_waiting_limit(session: Session | Connection, clinic_id: UUID) -> int | None:
    """Return how many of this clinic's cases may wait at once, if that was set for this clinic."""
    return session.scalar(_READ_WAITING_LIMIT, {"clinic_id": clinic_id})


def set_limits(session: Session, clinic_id: UUID, **limits: int | None) -> None:
    """Change a clinic's `waiting_limit` or `retention_days`; None removes the limit."""
    session.execute(update(ClinicRow).where(ClinicRow.id == clinic_id).values(**limits))


def shortens(kept_days: int | None, days: int | None) -> bool:
    """Tell whether a retention of `days` is shorter than the current one; None keeps cases for ever."""
    return days is not None and (kept_days is None or days < kept_days)


def add_key(
    session: Session, role: Role, clinic_id: UUID | None, now: datetime, expires_at: datetime | None = None
) -> MadeKey:
    """Make a key and return it: it cannot be seen again. SQL keeps its prefix and a hash.

    A plain SHA-256 is enough here: the secret is 256 random bits, so it cannot be guessed or looked up.
    """
    prefix, secret = secrets.token_hex(_PREFIX_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    row = ApiKeyRow(id=uuid4(), prefix=prefix, secret_sha256=_digest(secret), role=role, clinic_id=clinic_id)
    row.created_at, row.expires_at = now, expires_at
    session.add(row)
    session.flush()
    return MadeKey(row.id, prefix, f"dq_{prefix}_{secret}")


def expires_after(days: int | None, now: datetime) -> datetime | None:
    """Return when a key that is valid for `days` expires; None: never."""
    return now + timedelta(days=days) if days else None


def list_keys(session: Session, now: datetime) -> Sequence[Key]:
    """Return every key, oldest first."""
    return [_to_key(row, now) for row in session.scalars(select(ApiKeyRow).order_by(ApiKeyRow.created_at))]


def is_valid(now: datetime) -> ColumnElement[bool]:
    """Return the SQL condition that a key is neither revoked nor expired."""
    return ApiKeyRow.revoked_at.is_(None) & or_(ApiKeyRow.expires_at.is_(None), ApiKeyRow.expires_at > now)


def rotate_key(
    session: Session, key: UUID | str, now: datetime, overlap: timedelta, expires_at: datetime | None = None
) -> MadeKey:
    """Make a key with the same rights and let the old one expire after `overlap`; return the new one.

    key: the old key's id, its prefix, or the whole key.

    Raises:
        NotFound: `key_not_found`.
    """
    old = _find_valid_key(session, key, now)
    ends_at = now + overlap
    old.expires_at = ends_at if old.expires_at is None else min(old.expires_at, ends_at)
    return add_key(session, Role(old.role), old.clinic_id, now, expires_at)


def revoke_key(session: Session, key: UUID | str, now: datetime) -> Role:
    """Revoke a key at once, and return its role; `key` is as in `rotate_key`.

    Raises:
        NotFound: `key_not_found`.
    """
    row = _find_valid_key(session, key, now)
    row.revoked_at = now
    return Role(row.role)


def authenticate(session: Session | Connection, key: str) -> Caller:
    """Return who holds this key.

    Raises:
        NotAuthenticated: `key_unknown`, `key_revoked` or `key_expired`.
    """
    scheme, _, rest = key.partition("_")
    prefix, _, secret = rest.partition("_")
    is_key = scheme == "dq" and prefix.isalnum()  # PostgreSQL refuses a NUL
    row = session.execute(_FIND_KEY, {"prefix": prefix}).first() if is_key else None
    if row is None or not hmac.compare_digest(row.secret_sha256, _digest(secret)):
        raise NotAuthenticated("key_unknown", "This API key is not valid. Check that it was copied whole.")
    if row.revoked_at is not None:
        raise NotAuthenticated("key_revoked", "This API key was revoked. Ask your administrator for a new one.")
    if row.expires_at is not None and row.expires_at <= read_clock(session):
        raise NotAuthenticated("key_expired", "This API key has expired. Ask your administrator for a new one.")
    return Caller(row.id, Role(row.role), row.clinic_id)


def note_use(session: Session, key_id: UUID, now: datetime) -> None:
    """Record that a key was used."""
    session.execute(update(ApiKeyRow).where(ApiKeyRow.id == key_id).values(last_used_at=now))


def no_valid_key(named: str = "this id") -> NotFound:
    """Return the error for a key that does not exist or is no longer valid."""
    return NotFound("key_not_found", f"There is no valid key with {named}.")


def _find_valid_key(session: Session, key: UUID | str, now: datetime) -> ApiKeyRow:
    if isinstance(key, UUID):
        is_meant, named = ApiKeyRow.id == key, "this id"
    else:
        prefix = key.removeprefix("dq_").split("_", 1)[0]
        is_meant, named = ApiKeyRow.prefix == prefix, f"the prefix {prefix!r}"
    row = session.scalar(select(ApiKeyRow).where(is_meant, is_valid(now)))
    if row is None:
        raise no_valid_key(named)
    return row


def _to_clinic(row: ClinicRow) -> Clinic:
    return Clinic(row.id, row.name, row.created_at, row.waiting_limit, row.retention_days)


def _to_key(row: ApiKeyRow, now: datetime) -> Key:
    has_expired = row.expires_at is not None and row.expires_at <= now
    return Key(
        id=row.id,
        prefix=row.prefix,
        role=Role(row.role),
        clinic_id=row.clinic_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        state="revoked" if row.revoked_at else "expired" if has_expired else "valid",
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
