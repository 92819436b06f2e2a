"""Clinics, their keys, and the audit trail."""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.domain import Caller, Role
from shared.errors import Conflict, NotAuthenticated, NotFound
from shared.tables import ApiKeyRow, AuditRow, ClinicRow

_PREFIX_BYTES = 6
_SECRET_BYTES = 32
_WRONG_KEY = NotAuthenticated("key_unknown", "This API key is not valid. Check that it was copied whole.")


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
        raise Conflict("clinic_exists", f"There is a clinic named {name!r} already.") from error
    return clinic_id


def list_clinics(session: Session) -> Sequence[tuple[UUID, str]]:
    """Return (id, name) of every clinic, by name."""
    return [(row.id, row.name) for row in session.scalars(select(ClinicRow).order_by(ClinicRow.name))]


def find_clinic(session: Session, name_or_id: str) -> UUID:
    """Return the id of the clinic with this name or id.

    Raises:
        NotFound: `clinic_not_found`.
    """
    for clinic_id, name in list_clinics(session):
        if name_or_id in (name, str(clinic_id)):
            return clinic_id
    raise NotFound("clinic_not_found", f"There is no clinic {name_or_id!r}. Add it with `dermqueue clinic add`.")


def add_key(session: Session, role: Role, clinic_id: UUID | None, now: datetime) -> str:
    """Make a key and return it: the only time that it is to be seen. SQL keeps its prefix and a hash.

    A plain SHA-256 is enough here: the secret is 256 random bits, so there is nothing to guess or to look up.
    """
    prefix, secret = secrets.token_hex(_PREFIX_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    session.add(
        ApiKeyRow(
            id=uuid4(), prefix=prefix, secret_sha256=_digest(secret), role=role, clinic_id=clinic_id, created_at=now
        )
    )
    session.flush()
    return f"dq_{prefix}_{secret}"


def revoke_key(session: Session, key_or_prefix: str, now: datetime) -> None:
    """End a key's validity at once.

    Raises:
        NotFound: `key_not_found`.
    """
    prefix = key_or_prefix.removeprefix("dq_").split("_", 1)[0]
    revoked = session.execute(
        update(ApiKeyRow).where(ApiKeyRow.prefix == prefix, ApiKeyRow.revoked_at.is_(None)).values(revoked_at=now)
    )
    if not revoked.rowcount:
        raise NotFound("key_not_found", f"There is no valid key with the prefix {prefix!r}.")


def authenticate(session: Session, key: str) -> Caller:
    """Return who holds this key.

    Raises:
        NotAuthenticated: `key_unknown` or `key_revoked`.
    """
    scheme, _, rest = key.partition("_")
    prefix, _, secret = rest.partition("_")
    row = session.scalar(select(ApiKeyRow).where(ApiKeyRow.prefix == prefix)) if scheme == "dq" else None
    if row is None or not hmac.compare_digest(row.secret_sha256, _digest(secret)):
        raise _WRONG_KEY
    if row.revoked_at is not None:
        raise NotAuthenticated("key_revoked", "This API key was revoked. Ask your administrator for a new one.")
    return Caller(row.id, Role(row.role), row.clinic_id)


def audit(session: Session, caller: Caller, action: str, case_id: UUID, now: datetime) -> None:
    """Add to the trail that this caller did `action` to this case."""
    session.execute(
        insert(AuditRow).values(
            at=now, action=action, key_id=caller.key_id, role=caller.role, clinic_id=caller.clinic_id, case_id=case_id
        )
    )


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
