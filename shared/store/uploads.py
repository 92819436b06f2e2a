"""Direct uploads: photographs that a clinic puts into the object store itself, before a case is made of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import delete, func, select, tuple_, update
from sqlalchemy.orm import Session

from shared.errors import Conflict, NotFound
from shared.tables import UploadRow

_AT_ONCE = 1000
_KEPT_AFTER = timedelta(hours=1)
"""An upload that begins just in time arrives later, and its case is requested later still."""


@dataclass(frozen=True)
class Upload:
    """A direct upload. `sha256` is the digest that the clinic announced.

    Bytes are accepted until `expires_at`; a case can be made of them for a while longer.
    """

    id: UUID
    clinic_id: UUID
    object_key: str
    sha256: str | None
    expires_at: datetime


def add_upload(session: Session, upload: Upload, now: datetime) -> None:
    """Record that a clinic may make this upload."""
    session.add(
        UploadRow(
            id=upload.id,
            clinic_id=upload.clinic_id,
            object_key=upload.object_key,
            sha256=upload.sha256,
            created_at=now,
            expires_at=upload.expires_at,
        )
    )
    session.flush()


def find_upload(session: Session, clinic_id: UUID, upload_id: UUID, now: datetime) -> Upload:
    """Return an upload of which no case has been made yet.

    Raises:
        NotFound: `upload_not_found`: there is none, it is another clinic's, or it has expired.
        Conflict: `upload_used`.
    """
    row = session.scalar(select(UploadRow).where(UploadRow.id == upload_id, UploadRow.clinic_id == clinic_id))
    if row is None or (row.expires_at + _KEPT_AFTER <= now and row.case_id is None):
        raise _not_found()
    if row.case_id is not None:
        raise _used()
    return Upload(row.id, row.clinic_id, row.object_key, row.sha256, row.expires_at)


def use_upload(session: Session, upload_id: UUID, case_id: UUID) -> None:
    """Tie an upload to the case made of it; from now on the case alone has the digest, which goes when it is deleted.

    Raises:
        Conflict: `upload_used`: another request came first.
        NotFound: `upload_not_found`: it expired meanwhile.
    """
    used = session.execute(
        update(UploadRow)
        .where(UploadRow.id == upload_id, UploadRow.case_id.is_(None))
        .values(case_id=case_id, sha256=None)
    )
    if not used.rowcount:
        raise _not_found() if session.get(UploadRow, upload_id) is None else _used()


def _not_found() -> NotFound:
    return NotFound("upload_not_found", "There is no such upload, or it has expired. Request a new one.")


def _used() -> Conflict:
    return Conflict("upload_used", "A case was already made of this upload. Request a new upload for every case.")


def count_open(session: Session, clinic_id: UUID, now: datetime) -> int:
    """Return how many of a clinic's uploads are open: not expired, and without a case."""
    return session.scalar(
        select(func.count()).where(
            UploadRow.clinic_id == clinic_id, UploadRow.expires_at > now, UploadRow.case_id.is_(None)
        )
    )


class ExpiredUpload(NamedTuple):
    """An upload that no case can be made of any more, used or not."""

    expires_at: datetime
    id: UUID
    object_key: str


def list_expired(session: Session, now: datetime, after: ExpiredUpload | None = None) -> Sequence[ExpiredUpload]:
    """Return the next expired uploads, oldest first, after the given one."""
    query = (
        select(UploadRow.expires_at, UploadRow.id, UploadRow.object_key)
        .where(UploadRow.expires_at < now - _KEPT_AFTER)
        .order_by(UploadRow.expires_at, UploadRow.id)
        .limit(_AT_ONCE)
    )
    if after is not None:
        place = tuple_(UploadRow.expires_at, UploadRow.id)
        query = query.where(place > tuple_(*after[:2], types=(UploadRow.expires_at.type, UploadRow.id.type)))
    return [ExpiredUpload(*row) for row in session.execute(query)]


def forget_upload(session: Session, upload_id: UUID) -> None:
    """Remove an upload whose object is gone."""
    session.execute(delete(UploadRow).where(UploadRow.id == upload_id))
