"""An object that the store does not delete keeps no other from being erased."""

from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import select

from shared.database import Database, read_clock
from shared.errors import ObjectRefused, ObjectTimedOut, Unavailable
from shared.object_keys import upload_key
from shared.storage import ObjectStore
from shared.store import cases, objects, uploads
from shared.tables import CaseRow
from tests.factories import add_photograph
from tests.faults.network.proxy import Swallow
from tests.shared.buckets import answers
from tests.waiting import wait_until
from tests.worker.steps import open_upload, open_uploads
from worker import erasure
from worker.housekeeping import Housekeeping


class Refusing:
    """The real store, but it does not delete some objects: under a legal hold, or on a disk that does not answer."""

    def __init__(self, store: ObjectStore, kept: set, error: type[Unavailable]):
        self._store, self.kept, self._error = store, kept, error

    def __getattr__(self, verb: str):
        return getattr(self._store, verb)

    def erase_case(self, clinic_id: UUID, case_id: UUID) -> None:
        self._check(case_id)
        self._store.erase_case(clinic_id, case_id)

    def delete(self, key: str) -> None:
        self._check(key)
        self._store.delete(key)

    def _check(self, what) -> None:
        if what in self.kept:
            raise self._error("storage_unavailable", "no")


def delete_cases(database: Database, store: ObjectStore, clinic_id: UUID, count: int) -> list[UUID]:
    """Add cases that were deleted an hour ago, one second apart."""
    deleted = [add_photograph(database, store, clinic_id, b"photograph").id for _ in range(count)]
    with database.writing() as session:
        for seconds, case_id in enumerate(deleted):
            cases.delete_case(session, None, case_id, read_clock(session) - timedelta(hours=1, seconds=-seconds))
    return deleted


def left_of(database: Database) -> set[UUID]:
    with database.reading() as session:
        return set(session.scalars(select(CaseRow.id).where(CaseRow.erased_at.is_(None))))


@pytest.mark.parametrize("error", [ObjectRefused, ObjectTimedOut, Unavailable])
def test_cases_that_cannot_be_erased_are_skipped_however_many_and_retried_later(
    make_triage, database, store, clinic_id, monkeypatch, caplog, error
):
    monkeypatch.setattr(erasure, "_AT_ONCE", 2)
    monkeypatch.setattr("shared.storage._PAUSE_AFTER_TIMEOUT_S", 0)
    deleted = delete_cases(database, store, clinic_id, 6)
    refusing = Refusing(store, set(deleted[:4]), error)
    triage = make_triage(store=refusing)
    for _ in range(5):
        triage.sweep()
    assert left_of(database) == set(deleted[:4])
    assert error is Unavailable or f"erasure_refused case_id={deleted[0]}" in caplog.text
    refusing.kept = set()
    monkeypatch.setattr(triage._erasure, "_anew_at_s", 0)
    for _ in range(3):
        triage.sweep()
    assert left_of(database) == set()


def test_what_another_worker_has_erased_meanwhile_is_not_erased_again(make_triage, database, store, clinic_id):
    deleted = delete_cases(database, store, clinic_id, 3)
    asked = []

    class Crowded(Refusing):
        def erase_case(self, clinic_id: UUID, case_id: UUID) -> None:
            asked.append(case_id)
            with database.writing() as session:
                for each in deleted:
                    objects.mark_erased(session, each, read_clock(session))

    make_triage(store=Crowded(store, set(), ObjectRefused)).sweep()
    assert len(asked) == 1
    assert left_of(database) == set()


def test_an_upload_that_cannot_be_deleted_stops_no_other_step_of_the_purge_and_is_deleted_by_the_next(
    database, store, clinic_id, monkeypatch, caplog
):
    monkeypatch.setattr(uploads, "_AT_ONCE", 2)
    caplog.set_level("INFO")
    ids = [open_upload(database, store, clinic_id, 3 - number / 10) for number in range(5)]
    places = [upload_key(clinic_id, upload_id) for upload_id in ids[:3]]
    Housekeeping(database, Refusing(store, set(places), ObjectRefused)).purge()
    assert open_uploads(database) == set(ids[:3])
    assert f"erasure_refused key={places[0]}" in caplog.text
    assert "purged cases=0 uploads=2 orphans=0" in caplog.text
    Housekeeping(database, store).purge()
    assert open_uploads(database) == set()


def test_without_the_store_the_purge_still_does_what_does_not_need_it(database, store, clinic_id, caplog):
    caplog.set_level("INFO")
    upload_id = open_upload(database, store, clinic_id, 2)
    away = Refusing(store, {upload_key(clinic_id, upload_id)}, Unavailable)
    with pytest.raises(Unavailable):
        Housekeeping(database, away).purge()
    assert open_uploads(database) == {upload_id}
    assert "audit_head entries=" in caplog.text


def test_a_store_that_does_not_answer_at_all_ends_the_purge_at_its_first_timeout(database, store, clinic_id, caplog):
    uploads_open = [open_upload(database, store, clinic_id, 2) for _ in range(2)]
    silent = Refusing(store, {upload_key(clinic_id, each) for each in uploads_open}, ObjectTimedOut)
    silent.check_after = lambda _: silent._check(next(iter(silent.kept)))
    with pytest.raises(Unavailable):
        Housekeeping(database, silent).purge()
    assert caplog.text.count("erasure_refused") == 1


def test_deletions_that_are_never_answered_stop_neither_the_sweep_nor_the_purge(
    make_triage, database, store, clinic_id, proxied, monkeypatch, caplog
):
    network, proxied_store = proxied
    deleted = delete_cases(database, store, clinic_id, 5)
    ids = [open_upload(database, store, clinic_id, 2) for _ in range(3)]
    triage = make_triage(store=proxied_store)
    with network.behaving(Swallow()):
        triage.sweep()
    assert left_of(database) == set(deleted)
    assert caplog.text.count("erasure_refused") == 0
    monkeypatch.setattr(triage._erasure, "_anew_at_s", 0)
    wait_until(lambda: answers(proxied_store))
    with network.behaving(Swallow(asked=str(deleted[0]).encode())):
        triage.sweep()
    assert left_of(database) == {deleted[0]}
    with network.behaving(Swallow(asked=str(ids[0]).encode())):
        Housekeeping(database, proxied_store).purge()
    assert open_uploads(database) == {ids[0]}
