"""What need no longer be kept leaves no trace in SQL and S3 but the audit trail's; everything else stays."""

import logging
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from sqlalchemy import insert, select, update

from shared.database import read_clock
from shared.domain import Case, State
from shared.settings import Settings
from shared.storage import ENCRYPTION_PROBE, ObjectStore, open_object_store
from shared.store import cases, objects, queue, submissions, trail, uploads
from shared.tables import CaseRow, SubmissionItemRow, SubmissionRow, Table
from tests import images
from tests.factories import add_case, add_clinic, add_photograph, clinic_caller
from tests.shared.buckets import delete_plainly, keep_versions, open_bucket
from tests.worker.steps import deleted, end, keep_for, open_upload, open_uploads
from worker import housekeeping
from worker.housekeeping import Housekeeping

PHOTOGRAPH = images.encode(images.lesion(), "JPEG")
SECRETS = {"reference": "Jane-4711", "sex": "female", "site": "left calf", "idempotency_key": "key-of-Jane"}
ITEM_NAME = "jane-doe.jpg"
SENT_WITH = {"idempotency_key": "key-of-many", "request_sha256": "f" * 64}
FINAL = [State.SUCCEEDED, State.REJECTED, State.FAILED, State.CANCELLED]


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    """A bucket without other tests' objects: housekeeping looks at every object."""
    store = open_object_store(settings.model_copy(update={"s3_bucket": "housekeeping"}))
    store.ensure_bucket()
    return store


@pytest.fixture
def purge(database, store) -> Callable[[], None]:
    return Housekeeping(database, store).purge


@pytest.fixture
def in_days(monkeypatch) -> Callable[[float], None]:
    """Return a function that sets housekeeping's clock some days ahead."""

    def set_clock(days: float) -> None:
        monkeypatch.setattr(housekeeping, "read_clock", lambda session: read_clock(session) + timedelta(days=days))

    return set_clock


def tables_with(database, text: str) -> set[str]:
    """Return the names of the tables that have the text in any row and column."""
    with database.reading() as session:
        tables = Table.metadata.sorted_tables
        return {table.name for table in tables for row in session.execute(select(table)) if text in str(row)}


def stored_keys(store: ObjectStore) -> set[str]:
    return {item.key for page in store.walk() for item in page}


def note_how_it_came(database, case: Case) -> None:
    """Make the case part of a submission, under its file's name, and the result of an upload."""
    with database.writing() as session:
        now, submission_id = read_clock(session), uuid4()
        values = {"id": submission_id, "clinic_id": case.clinic_id, "created_at": now, "finished_at": now, **SENT_WITH}
        session.execute(insert(SubmissionRow).values(values))
        item = {"submission_id": submission_id, "position": 1, "name": ITEM_NAME, "case_id": case.id}
        session.execute(insert(SubmissionItemRow).values(item))
        upload = uploads.Upload(uuid4(), case.clinic_id, "x", case.photograph.sha256, now + timedelta(days=1))
        uploads.add_upload(session, upload, now)
        uploads.use_upload(session, upload.id, case.id)


def test_only_what_ended_before_its_own_clinics_retention_is_deleted(database, purge, clinic_id):
    for_ever, longer = add_clinic(database), add_clinic(database)
    keep_for(database, clinic_id, 30)
    keep_for(database, longer, 60)
    outdated = {end(database, add_case(database, clinic_id), state, 31) for state in FINAL}
    for state in FINAL:
        end(database, add_case(database, clinic_id), state, 29)
        end(database, add_case(database, longer), state, 31)
        end(database, add_case(database, for_ever), state, 3650)
    waiting, running = add_case(database, clinic_id), add_case(database, clinic_id)
    with database.writing() as session:
        queue.claim_cases(session, 1, 60, read_clock(session))
        session.execute(
            update(CaseRow)
            .where(CaseRow.id.in_([waiting.id, running.id]))
            .values(submitted_at=read_clock(session) - timedelta(days=99))
        )
    purge()
    assert deleted(database) == outdated
    purge()
    assert deleted(database) == outdated
    with database.reading() as session:
        entries = [(row.action, row.role, row.case_id) for row in trail.list_entries(session, None, None, 100)]
    assert sorted(entries) == sorted(("case.purged", "housekeeping", case_id) for case_id in outdated)


def test_more_cases_than_one_transaction_deletes_are_all_deleted(database, purge, clinic_id, monkeypatch):
    monkeypatch.setattr(housekeeping, "_AT_ONCE", 2)
    keep_for(database, clinic_id, 1)
    outdated = {end(database, add_case(database, clinic_id), State.FAILED, 2) for _ in range(5)}
    purge()
    assert deleted(database) == outdated


def test_after_each_batch_others_may_write_for_as_long_as_it_took(database, clinic_id, monkeypatch):
    monkeypatch.setattr(housekeeping, "_AT_ONCE", 2)
    keep_for(database, clinic_id, 1)
    for _ in range(4):
        end(database, add_case(database, clinic_id), State.FAILED, 2)
    clock_s, pauses_s = iter([10.0, 13.0, 20.0, 24.0, 30.0]), []
    monkeypatch.setattr(housekeeping, "time", SimpleNamespace(monotonic=clock_s.__next__))
    Housekeeping(database, None, SimpleNamespace(wait=pauses_s.append))._delete_outdated()
    assert pauses_s == [3.0, 4.0]


@pytest.mark.parametrize("days", [9, None])
def test_a_retention_that_is_lengthened_or_removed_during_a_purge_holds_from_the_next_batch_on(
    database, clinic_id, monkeypatch, days
):
    monkeypatch.setattr(housekeeping, "_AT_ONCE", 2)
    keep_for(database, clinic_id, 1)
    for _ in range(4):
        end(database, add_case(database, clinic_id), State.FAILED, 2)
    pause = SimpleNamespace(wait=lambda _: keep_for(database, clinic_id, days))
    assert Housekeeping(database, None, pause)._delete_outdated() == len(deleted(database)) == 2


def by_its_clinic(database, case: Case) -> None:
    with database.writing() as session:
        now = read_clock(session)
        cases.delete_case(session, clinic_caller(case.clinic_id), case.id, now)
        trail.audit(session, clinic_caller(case.clinic_id), "case.deleted", [case.id], now)


def by_the_version_before(database, case: Case) -> None:
    by_its_clinic(database, case)
    with database.writing() as session:
        session.execute(update(CaseRow).values(width=640, height=480, size_bytes=1000))


def by_retention(database, case: Case) -> None:
    keep_for(database, case.clinic_id, 30)
    with database.writing() as session:
        session.execute(update(CaseRow).values(finished_at=read_clock(session) - timedelta(days=31)))


@pytest.mark.parametrize(
    ("remove", "action"),
    [(by_its_clinic, "case.deleted"), (by_the_version_before, "case.deleted"), (by_retention, "case.purged")],
)
def test_of_a_deleted_case_nothing_is_left_but_a_tombstone_and_its_trail(
    make_triage, database, store, purge, clinic_id, remove, action
):
    case = add_photograph(database, store, clinic_id, PHOTOGRAPH, **SECRETS, age=61, request_sha256="e" * 64)
    note_how_it_came(database, case)
    triage = make_triage(store=store)
    triage.analyze_waiting()
    secrets = {*SECRETS.values(), *SENT_WITH.values(), ITEM_NAME, case.photograph.sha256, "e" * 64}
    keys = {key for key in stored_keys(store) if str(case.id) in key}
    assert all(tables_with(database, secret) for secret in secrets)
    assert len(keys) == 2

    remove(database, case)
    purge()
    with database.writing() as session:  # one lease later
        session.execute(update(CaseRow).values(deleted_at=read_clock(session) - timedelta(hours=1)))
    triage.sweep()

    assert not any(tables_with(database, secret) for secret in secrets)
    assert tables_with(database, str(case.id)) == {"cases", "submission_items", "uploads", "audit_events"}
    assert not keys & stored_keys(store)
    with database.reading() as session:
        row = session.get(CaseRow, case.id)
        kept = row.age, row.width, row.height, row.size_bytes
        assert (row.state, row.erased_at is None, *kept) == (State.SUCCEEDED, False, None, 0, 0, 0)
        entries = [row.action for row in trail.list_entries(session, case.id, None, 100)]
        assert (entries, trail.verify_trail(session).faults) == ([action, "case.succeeded"], [])
        assert cases.find_by_idempotency_key(session, clinic_id, SECRETS["idempotency_key"]) is None
    assert add_photograph(database, store, clinic_id, PHOTOGRAPH, **SECRETS).id != case.id


def test_a_submission_is_recognised_until_its_last_case_is_deleted(database, clinic_id):
    first, second = (add_case(database, clinic_id) for _ in range(2))
    note_how_it_came(database, first)
    with database.writing() as session:
        submission_id = session.scalar(select(SubmissionRow.id))
        item = {"submission_id": submission_id, "position": 2, "name": "", "case_id": second.id}
        session.execute(insert(SubmissionItemRow).values(item))
    for case, kept in ((first, tuple(SENT_WITH.values())), (second, (None, ""))):
        by_its_clinic(database, case)
        with database.reading() as session:
            columns = select(SubmissionRow.idempotency_key, SubmissionRow.request_sha256)
            assert tuple(session.execute(columns).one()) == kept


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_case_that_its_clinic_is_deleting_does_not_hold_up_the_purge(database, purge, clinic_id):
    keep_for(database, clinic_id, 1)
    first, second = (end(database, add_case(database, clinic_id), State.FAILED, 2) for _ in range(2))
    purging = threading.Thread(target=purge)
    with database.writing() as session:
        cases.delete_case(session, clinic_caller(clinic_id), first, read_clock(session))
        purging.start()
        purging.join(20)
        assert (purging.is_alive(), deleted(database)) == (False, {second})


def test_expired_uploads_go_with_their_objects_used_or_not_however_many(database, store, purge, clinic_id, monkeypatch):
    monkeypatch.setattr(uploads, "_AT_ONCE", 2)
    for used in (False, False, False, True, True):
        case_id = add_case(database, clinic_id).id if used else None
        open_upload(database, store, clinic_id, 2, case_id)
    current = open_upload(database, store, clinic_id, -0.01)
    purge()
    assert open_uploads(database) == {current}
    mine = {key for key in stored_keys(store) if str(clinic_id) in key}
    assert mine == {f"uploads/{clinic_id}/{current}"}


def test_the_name_of_a_refused_file_is_forgotten_after_a_month_and_a_cases_is_not(database, purge, clinic_id, in_days):
    case_id, submission_id = add_case(database, clinic_id).id, uuid4()
    with database.writing() as session:
        submissions.add_submission(session, submission_id, clinic_id, None, "", read_clock(session))
        submissions.add_item(session, submission_id, 1, "kept", case_id)
        submissions.add_item(session, submission_id, 2, "refused", error=("image_empty", "It is empty."))
    for days, names in ((29, ["kept", "refused"]), (31, ["kept", ""])):
        in_days(days)
        purge()
        with database.reading() as session:
            assert [item.name for item in submissions.read_submission(session, clinic_id, submission_id).items] == names


def test_an_unfinished_submission_without_cases_keeps_its_digest_for_a_month(database, purge, clinic_id, in_days):
    deleted_case, kept_case = (add_case(database, clinic_id) for _ in range(2))
    abandoned, living = uuid4(), uuid4()
    with database.writing() as session:
        for submission_id, case in ((abandoned, deleted_case), (living, kept_case)):
            submissions.add_submission(session, submission_id, clinic_id, None, str(submission_id), read_clock(session))
            submissions.add_item(session, submission_id, 1, "", case.id)
        cases.delete_case(session, None, deleted_case.id, read_clock(session))
    for days, digests in ((29, {str(abandoned), str(living)}), (31, {"", str(living)})):
        in_days(days)
        purge()
        with database.reading() as session:
            assert set(session.scalars(select(SubmissionRow.request_sha256))) == digests


def test_objects_without_a_row_are_erased_after_a_month_and_no_others(
    make_triage, database, store, purge, clinic_id, in_days
):
    living = add_photograph(database, store, clinic_id, PHOTOGRAPH)
    make_triage(store=store).analyze_waiting()
    going, gone = (add_photograph(database, store, clinic_id, PHOTOGRAPH) for _ in range(2))
    with database.writing() as session:
        for case in (going, gone):
            cases.delete_case(session, None, case.id, read_clock(session))
        objects.mark_erased(session, gone.id, read_clock(session))
    foreign = {ENCRYPTION_PROBE, "readme.txt", "backups/2026/all.tar", f"{uuid4()}/x", "uploads/2024/scan.pdf"}
    foreign |= {f"uploads/{uuid4()}", f"uploads/{clinic_id}/{uuid4()}/x"}
    orphans = {f"{clinic_id}/{uuid4()}/{'0' * 64}.jpg", f"{uuid4()}/{uuid4()}/overlay.png"}
    orphans.add(f"uploads/{clinic_id}/{uuid4()}")  # its row was lost when a backup was restored
    orphans.add(f"uploads/probe-{uuid4()}")
    for key in foreign | orphans:
        store.put(key, b"x", "text/plain")
    orphans.add(gone.photograph.key)  # a worker stored it late, after the erasure
    others = {key for key in stored_keys(store) if str(living.id) in key} | {going.photograph.key} | foreign
    add_case(database, clinic_id)
    in_days(29.9)
    purge()
    assert stored_keys(store) >= others | orphans
    in_days(30.1)
    purge()
    assert stored_keys(store) & (others | orphans) == others
    assert len(others) == 3 + len(foreign)


@pytest.mark.parametrize(("followed_in_days", "is_kept"), [(None, True), (-1, True), (15, True), (13, False)])
def test_an_object_without_a_row_that_no_case_followed_is_kept_as_its_row_may_be_missing_from_a_restored_backup(
    database, store, purge, clinic_id, in_days, followed_in_days, is_kept
):
    key = f"{clinic_id}/{uuid4()}/{'0' * 64}.jpg"
    store.put(key, b"x", "image/jpeg")
    if followed_in_days is not None:
        case = add_case(database, clinic_id)
        with database.writing() as session:
            session.execute(update(CaseRow).values(submitted_at=case.submitted_at + timedelta(days=followed_in_days)))
    in_days(365)
    purge()
    assert (key in stored_keys(store)) is is_kept


def test_versions_that_a_deletion_left_of_an_erased_case_are_erased_after_a_month(
    database, settings, clinic_id, in_days
):
    store = open_bucket(settings)
    keep_versions(store)
    living, erased = (add_photograph(database, store, clinic_id, PHOTOGRAPH) for _ in range(2))
    delete_plainly(store, erased.photograph.key)
    with database.writing() as session:
        cases.delete_case(session, None, erased.id, read_clock(session))
        objects.mark_erased(session, erased.id, read_clock(session))
    for days, left in ((29.9, {living.photograph.key, erased.photograph.key}), (30.1, {living.photograph.key})):
        in_days(days)
        Housekeeping(database, store).purge()
        assert stored_keys(store) == left


def test_every_purge_logs_the_trails_newest_hash_so_that_there_is_a_copy_elsewhere(database, purge, clinic_id, caplog):
    by_its_clinic(database, add_case(database, clinic_id))
    with caplog.at_level(logging.INFO):
        purge()
    with database.reading() as session:
        entries, head = trail.read_head(session)
    assert f"audit_head entries={entries} hash={head}" in caplog.text
    assert "purged cases=0 uploads=0 orphans=" in caplog.text


def test_a_store_that_refuses_to_be_listed_is_asked_again_the_next_day_and_not_at_once(database, settings, caplog):
    stranger = open_object_store(settings.model_copy(update={"s3_access_key": "nobody"}))
    assert Housekeeping(database, stranger).purge()
    assert "walk_refused reason=" in caplog.text
