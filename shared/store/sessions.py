"""Sessions of people who signed in on a page, until they sign out, are idle for too long, or their key ends."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from shared.domain import Caller, Role
from shared.service_tables import SessionRow
from shared.store.access import is_valid
from shared.tables import ApiKeyRow

LASTS = timedelta(hours=12)
LASTS_UNUSED = timedelta(minutes=30)
_USE_NOTED_EVERY = timedelta(minutes=1)
_TOKEN_BYTES = 32


@dataclass(frozen=True)
class SignedIn:
    """A valid session. `csrf_secret` is in every form of its pages, and nowhere else."""

    id: str
    caller: Caller
    key_prefix: str
    csrf_secret: str
    use_is_due: bool


def begin_session(session: Session, caller: Caller, now: datetime) -> str:
    """Sign in the holder of a key and return the cookie's token, which SQL keeps as a hash. Removes ended sessions."""
    session.execute(
        delete(SessionRow).where(or_(SessionRow.expires_at <= now, SessionRow.used_at <= now - LASTS_UNUSED))
    )
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    row = SessionRow(id=_digest(token), key_id=caller.key_id, csrf_secret=secrets.token_urlsafe(_TOKEN_BYTES))
    row.created_at = row.used_at = now
    row.expires_at = now + LASTS
    session.add(row)
    session.flush()
    return token


def find_session(session: Session, token: str, now: datetime) -> SignedIn | None:
    """Return the session with this token, or None if it has ended. It ends with its key, however that ends."""
    found = session.execute(
        select(SessionRow, ApiKeyRow)
        .join(ApiKeyRow, ApiKeyRow.id == SessionRow.key_id)
        .where(SessionRow.id == _digest(token), is_valid(now))
        .where(SessionRow.expires_at > now, SessionRow.used_at > now - LASTS_UNUSED)
    ).first()
    if found is None:
        return None
    row, key = found
    caller = Caller(key.id, Role(key.role), key.clinic_id)
    return SignedIn(row.id, caller, key.prefix, row.csrf_secret, row.used_at <= now - _USE_NOTED_EVERY)


def note_session_use(session: Session, session_id: str, now: datetime) -> None:
    """Record that a session was used."""
    session.execute(update(SessionRow).where(SessionRow.id == session_id).values(used_at=now))


def renew_session(session: Session, session_id: str, now: datetime) -> None:
    """Extend a session as if it began now: its key was entered again."""
    row = session.get(SessionRow, session_id)
    row.used_at, row.expires_at = now, now + LASTS


def end_session(session: Session, session_id: str) -> None:
    """Sign somebody out."""
    session.execute(delete(SessionRow).where(SessionRow.id == session_id))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
