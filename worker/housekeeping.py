"""Removes what need no longer be kept: outdated cases, expired uploads, orphaned objects, abandoned submissions."""

import logging
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import takewhile
from threading import Event
from uuid import UUID

from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.errors import ObjectInaccessible, ObjectRefused
from shared.object_keys import case_of_key, is_upload
from shared.storage import ObjectStore, StoredObject
from shared.store import access, cases, objects, submissions, trail, uploads, webhooks

_AT_ONCE = 20
"""Cases deleted in one transaction. On SQLite, submissions wait for it and get their turn in the pause after it."""

# An object without a row belongs to no case; but after a restore from yesterday's backup it may be all that is left of
# one, so there is a month for a human to notice. After a restore from an older one, or into an empty database, many are
# older than that already; but they were stored in a gap of this database, and what was stored while it was in use is
# soon followed by cases. Of the last of these before a restore, a human has the rest of the month.
_ORPHAN_GRACE = timedelta(days=30)
_FOLLOWED_WITHIN = timedelta(days=14)
_ABANDONED_KEPT = timedelta(days=30)

log = logging.getLogger(__name__)


class Housekeeping:
    """The daily purge. Every step may be cut short, for example by `stopping`, and is resumed the next time."""

    def __init__(self, database: Database, store: ObjectStore, stopping: Event | None = None):
        self._database, self._store, self._stopping = database, store, stopping or Event()

    def purge(self) -> bool:
        """Remove what need no longer be kept, and log the audit trail's newest hash, to have a copy elsewhere.

        Return False if `stopping` may have cut it short.

        Raises:
            Unavailable: the database or the object store is away.
        """
        outdated = self._delete_outdated()
        with self._database.writing() as session:
            webhooks.forget_old_deliveries(session, read_clock(session))
            submissions.forget_abandoned(session, read_clock(session) - _ABANDONED_KEPT)
            cases.forget_sizes(session)
        with self._database.reading() as session:
            entries, head = trail.read_head(session)
        log.info("audit_head entries=%d hash=%s", entries, head)
        expired, orphans = self._drop_expired_uploads(), self._erase_orphans()  # what needs the store comes last
        complete = not self._stopping.is_set()
        log.info("purged cases=%d uploads=%d orphans=%d complete=%s", outdated, expired, orphans, complete)
        return complete

    def _delete_outdated(self) -> int:
        with self._database.reading() as session:
            clinics = access.list_clinics(session)
        deleted = 0
        for clinic_id in [clinic.id for clinic in clinics if clinic.retention_days is not None]:
            began_s = time.monotonic()
            while case_ids := self._delete_some(clinic_id):
                deleted += len(case_ids)
                if self._stopping.wait(time.monotonic() - began_s):  # as long as it took
                    return deleted
                began_s = time.monotonic()
        return deleted

    def _delete_some(self, clinic_id: UUID) -> Sequence[UUID]:
        """Delete a batch by the retention of now: an admin may lengthen or remove it during a long purge."""
        with self._database.writing() as session:
            now, days = read_clock(session), access.read_clinic(session, clinic_id).retention_days
            if days is None:
                return []
            case_ids = cases.list_finished_before(session, clinic_id, now - timedelta(days=days), _AT_ONCE)
            for case_id in case_ids:
                cases.delete_case(session, None, case_id, now)
            trail.audit(session, trail.HOUSEKEEPING, "case.purged", case_ids, now)
        return case_ids

    def _drop_expired_uploads(self) -> int:
        dropped, last = 0, None
        while expired := self._list_expired_uploads(last):
            for upload in expired:
                if self._stopping.is_set():
                    return dropped
                if self._delete(upload.object_key):
                    with self._database.writing() as session:
                        uploads.forget_upload(session, upload.id)
                    dropped += 1
            last = expired[-1]
        return dropped

    def _list_expired_uploads(self, after: uploads.ExpiredUpload | None) -> Sequence[uploads.ExpiredUpload]:
        with self._database.reading() as session:
            return uploads.list_expired(session, read_clock(session), after)

    def _delete(self, key: str) -> bool:
        """Delete an object, or return False if it alone is inaccessible: it must not hold up the others.

        Raises:
            Unavailable: the whole store is unavailable.
        """
        try:
            self._store.delete(key)
        except ObjectInaccessible as error:
            log.warning("erasure_refused key=%s reason=%s", key, error.__cause__)
            self._store.check_after(error)
            return False
        return True

    def _erase_orphans(self) -> int:
        """Erase old objects that are no case's, and all old uploads: no upload with a row is that old."""
        with self._database.reading() as session:
            stored_before = read_clock(session) - _ORPHAN_GRACE
        pages = takewhile(lambda _: not self._stopping.is_set(), self._store.walk())
        try:
            return sum(self._erase_unknown(page, stored_before) for page in pages)
        except ObjectRefused as error:  # to list, or to erase versions: it would refuse again in five minutes
            log.warning("walk_refused reason=%s", error.__cause__)
            return 0

    def _erase_unknown(self, page: Sequence[StoredObject], stored_before: datetime) -> int:
        old = [item for item in page if item.stored_at < stored_before]
        with self._database.reading() as session:
            known = objects.find_known(session, {case_id for item in old if (case_id := case_of_key(item.key))})
            orphans = {item.key for item in old if _is_orphan(session, item, known)}
        return sum(self._delete(key) for key in orphans if not self._stopping.is_set())


def _is_orphan(session: Session, item: StoredObject, known: Mapping[UUID, bool]) -> bool:
    """Tell whether an old object is an upload, of an erased case, or of none although this database was in use."""
    case_id = case_of_key(item.key)
    if case_id is None:
        return is_upload(item.key)
    if case_id in known:
        return known[case_id]
    return objects.is_any_submitted(session, item.stored_at, item.stored_at + _FOLLOWED_WITHIN)
