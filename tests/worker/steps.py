"""What tests of a worker do to cases, uploads and clinics behind its back."""

from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import select, update

from shared.database import read_clock
from shared.domain import Case, State
from shared.errors import Unavailable
from shared.storage import ObjectStore
from shared.store import access, uploads
from shared.tables import CaseRow, UploadRow
from tests import images


def jpeg(width: int = 320, height: int = 240) -> bytes:
    return images.encode(images.lesion(width, height), "JPEG")


def state_of(database, case) -> tuple[str, str | None, int]:
    with database.reading() as session:
        row = session.get(CaseRow, case.id)
        return row.state, row.error_code, row.attempts


def lapse_leases(database) -> None:
    with database.writing() as session:
        session.execute(
            update(CaseRow).where(CaseRow.lease_token.is_not(None)).values(lease_expires_at=CaseRow.submitted_at)
        )


class Away:
    """The real store, unreachable for one verb."""

    def __init__(self, store, verb: str):
        self._store, self._verb = store, verb

    def __getattr__(self, verb: str):
        def refuse(*_):
            raise Unavailable("storage_unavailable", "away")

        return refuse if verb == self._verb else getattr(self._store, verb)


def keep_for(database, clinic_id: UUID, days: int | None) -> None:
    with database.writing() as session:
        access.set_limits(session, clinic_id, retention_days=days)


def end(database, case: Case, state: State, days_ago: float) -> UUID:
    """Make the case one that was submitted and ended `days_ago`."""
    with database.writing() as session:
        then = read_clock(session) - timedelta(days=days_ago)
        changed = {"state": state, "submitted_at": then, "finished_at": then}
        session.execute(update(CaseRow).where(CaseRow.id == case.id).values(changed))
    return case.id


def deleted(database) -> set[UUID]:
    with database.reading() as session:
        return set(session.scalars(select(CaseRow.id).where(CaseRow.deleted_at.is_not(None))))


def open_upload(database, store: ObjectStore, clinic_id: UUID, days_ago: float, case_id: UUID | None = None) -> UUID:
    """Add an upload whose object the clinic has stored."""
    upload_id = uuid4()
    key = f"uploads/{clinic_id}/{upload_id}"
    with database.writing() as session:
        now = read_clock(session)
        expires_at = now - timedelta(days=days_ago)
        uploads.add_upload(session, uploads.Upload(upload_id, clinic_id, key, "a" * 64, expires_at), now)
        if case_id:
            uploads.use_upload(session, upload_id, case_id)
    store.put(key, jpeg(), "image/jpeg")
    return upload_id


def open_uploads(database) -> set[UUID]:
    with database.reading() as session:
        return set(session.scalars(select(UploadRow.id)))
