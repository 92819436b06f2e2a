"""Places in the object store that a clinic fills by itself, before a case is made of what lies there."""

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
"""A photograph whose sending began just in time arrives later, and its case is asked for later still."""


@dataclass(frozen=True)
class Upload:
    """What was agreed on before the bytes came. `sha256` is what the clinic said that they would be.

    Until `expires_at` the place takes bytes; a case can be made of them for a while longer.
    """

    id: UUID
    clinic_id: UUID
    object_key: str
    sha256: str | None
    expires_at: datetime


def add_upload(session: Session, upload: Upload, now: datetime) -> None:
    """Note that a clinic may fill this place."""
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
    """Return an upload that no case was made of yet.

    Raises:
        NotFound: `upload_not_found`: there is none, it is another clinic's, or it has expired.
        Conflict: `upload_used`.
    """
    row = session.scalar(select(UploadRow).where(UploadRow.id == upload_id, UploadRow.clinic_id == clinic_id))
    if row is None or (row.expires_at + _KEPT_AFTER <= now and row.case_id is None):
        raise NotFound("upload_not_found", "There is no such upload, or it has expired. Ask for a new one.")
    if row.case_id is not None:
        raise _used()
    return Upload(row.id, row.clinic_id, row.object_key, row.sha256, row.expires_at)


def use_upload(session: Session, upload_id: UUID, case_id: UUID) -> None:
    """Tie an upload to the case that was made of it; from now on the case alone has the digest, and may be deleted.

    Raises:
        Conflict: `upload_used`: another request was faster.
    """
    used = session.execute(
        update(UploadRow)
        .where(UploadRow.id == upload_id, UploadRow.case_id.is_(None))
        .values(case_id=case_id, sha256=None)
    )
    if not used.rowcount:
        raise _used()


def _used() -> Conflict:
    return Conflict("upload_used", "A case was made of this upload already. Ask for a new upload for every case.")


def count_open(session: Session, clinic_id: UUID, now: datetime) -> int:
    """Return how many of a clinic's uploads are open: not expired, and without a case."""
    return session.scalar(
        select(func.count()).where(
            UploadRow.clinic_id == clinic_id, UploadRow.expires_at > now, UploadRow.case_id.is_(None)
        )
    )


class ExpiredUpload(NamedTuple):
    """An upload whose time is long over, used or not."""

    expires_at: datetime
    id: UUID
    object_key: str


def list_expired(session: Session, now: datetime, after: ExpiredUpload | None = None) -> Sequence[ExpiredUpload]:
    """Return expired uploads, oldest first, from one of them on."""
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
