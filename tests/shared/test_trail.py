"""The audit trail is one unbroken chain, however many write at once, and shows when somebody has tampered with it."""

import subprocess
import sys
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert, select, text, update

from shared.database import Database
from shared.domain import Caller, Role
from shared.store import trail
from shared.store.trail import HOUSEKEEPING, OPERATOR, WORKER, Actor
from shared.tables import AuditRow
from tests.factories import clinic_caller
from tests.shared.steps import at

CLINIC = clinic_caller(uuid4())
REVIEWER = Caller(uuid4(), Role.REVIEWER, None)
WRITE_TOGETHER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4
from shared.database import open_database, read_clock
from shared.store import trail

database = open_database(sys.argv[1])

def write(_):
    with database.writing() as session:
        trail.audit(session, trail.WORKER, "case.succeeded", [uuid4(), uuid4()], read_clock(session))

with ThreadPoolExecutor(10) as threads:
    list(threads.map(write, range(30)))
database.engine.dispose()
"""


def add(database: Database, action: str = "image.read", actor: Caller | Actor = CLINIC, cases: int = 1) -> list[UUID]:
    case_ids = [uuid4() for _ in range(cases)]
    with database.writing() as session:
        trail.audit(session, actor, action, case_ids, at(1))
    return case_ids


def add_as_a_version_without_chain(database: Database, *actions: str) -> None:
    with database.writing() as session:
        for action in actions:
            session.execute(insert(AuditRow).values(at=at(0), action=action, case_id=uuid4()))


def change(database: Database, statement: str) -> None:
    """Tamper with the trail as somebody with the database's password can."""
    with database.writing() as session:
        assert session.execute(text(statement)).rowcount > 0


def verify(database: Database, head: str | None = None) -> trail.TrailReport:
    with database.reading() as session:
        return trail.verify_trail(session, head)


def read_head(database: Database) -> tuple[int, str]:
    with database.reading() as session:
        return trail.read_head(session)


def listed(database: Database, case_id: UUID | None = None, before: int | None = None, limit: int = 100) -> Sequence:
    with database.reading() as session:
        return [(row.position, row.action) for row in trail.list_entries(session, case_id, before, limit)]


def test_the_trail_keeps_who_did_what_to_which_case_in_order(database):
    who = {"case.submitted": CLINIC, "image.read": REVIEWER, "case.succeeded": WORKER, "case.purged": HOUSEKEEPING}
    who["case.requeued"] = OPERATOR
    case_ids = [add(database, action, actor)[0] for action, actor in who.items()]
    with database.reading() as session:
        rows = session.scalars(select(AuditRow).order_by(AuditRow.position)).all()
        found = [(row.at, row.action, row.key_id, row.role, row.clinic_id, row.case_id) for row in rows]
    expected = zip(
        (CLINIC.key_id, REVIEWER.key_id, None, None, None),
        ("clinic", "reviewer", "worker", "housekeeping", "operator"),
        (CLINIC.clinic_id, None, None, None, None),
        case_ids,
        strict=True,
    )
    assert found == [(at(1), action, *rest) for action, rest in zip(who, expected, strict=True)]


def test_entries_of_one_call_and_of_many_make_one_sound_chain(database):
    add(database, cases=3)
    add(database)
    with database.writing() as session:
        for action in ("case.rejected", "case.failed"):  # as a worker that records a batch
            trail.audit(session, WORKER, action, [uuid4(), uuid4()], at(2))
    assert [position for position, _ in listed(database)] == [8, 7, 6, 5, 4, 3, 2, 1]
    report = verify(database)
    assert (report.entries, report.faults) == (8, [])
    assert read_head(database) == (8, report.head)


def test_an_empty_trail_is_sound_and_its_head_is_all_zeros(database):
    assert verify(database) == trail.TrailReport(0, "0" * 64, [])
    assert read_head(database) == (0, "0" * 64)
    assert verify(database, "0" * 64).faults == []


def test_doing_something_to_no_case_adds_nothing(database):
    add(database, cases=0)
    assert listed(database) == []


def test_what_is_rolled_back_leaves_no_entry_and_no_gap(database):
    add(database)
    with database.writing() as session:
        trail.audit(session, CLINIC, "case.cancelled", [uuid4()], at(1))
        session.rollback()
    add(database, "case.deleted")
    assert listed(database) == [(2, "case.deleted"), (1, "image.read")]
    assert verify(database).faults == []


@pytest.mark.parametrize(
    "column",
    ["at = '2026-03-01 00:00:02+00:00'", "action = 'case.read'", "role = 'admin'"]
    + [f"{name} = NULL" for name in ("key_id", "clinic_id", "case_id")],
)
def test_an_altered_entry_is_named(database, column):
    for _ in range(4):
        add(database)
    change(database, f"UPDATE audit_events SET {column} WHERE position = 2")
    assert [fault.split(" does not ")[0] for fault in verify(database).faults] == ["Entry 2"]


def test_an_altered_entry_with_a_matching_hash_is_exposed_by_the_next_one(database):
    for _ in range(4):
        add(database)
    with database.writing() as session:
        row = session.scalar(select(AuditRow).where(AuditRow.position == 2))
        previous = session.scalar(select(AuditRow.hash).where(AuditRow.position == 1))
        row.action = "case.read"
        row.hash = trail._hash(row, previous)
    assert [fault.split(" does not ")[0] for fault in verify(database).faults] == ["Entry 3"]


@pytest.mark.parametrize(("removed", "named"), [("1", "1 to 1"), ("2", "2 to 2"), ("2, 3", "2 to 3")])
def test_entries_that_were_removed_are_named(database, removed, named):
    for _ in range(5):
        add(database)
    change(database, f"DELETE FROM audit_events WHERE position IN ({removed})")
    assert verify(database).faults == [f"Entries {named} are missing."]


def test_closing_the_gap_breaks_the_chain_all_the_same(database):
    for _ in range(3):
        add(database)
    change(database, "DELETE FROM audit_events WHERE position = 2")
    change(database, "UPDATE audit_events SET position = 2 WHERE position = 3")
    assert len(verify(database).faults) == 1


def test_two_swapped_entries_are_found(database):
    for _ in range(4):
        add(database)
    for was, becomes in ((2, 99), (3, 2), (99, 3)):
        change(database, f"UPDATE audit_events SET position = {becomes} WHERE position = {was}")
    assert [fault.split(" does not ")[0] for fault in verify(database).faults] == ["Entry 2", "Entry 3", "Entry 4"]


@pytest.mark.parametrize("tampering", ["removed", "removed and others added", "rewritten"])
def test_tampering_with_the_newest_entries_is_found_with_a_noted_head(database, tampering):
    for _ in range(3):
        add(database)
    _, noted = read_head(database)
    if tampering == "rewritten":
        change(
            database, "UPDATE audit_events SET action = 'case.read', position = NULL, hash = NULL WHERE position = 3"
        )
        add(database)
    else:
        change(database, "DELETE FROM audit_events WHERE position >= 2")
        add(database, cases=5 if "added" in tampering else 1)
    assert verify(database).faults == []
    (fault,) = verify(database, noted).faults
    assert fault.startswith("The expected hash is not in the chain")


def test_a_noted_head_is_still_in_the_chain_after_more_was_added(database):
    noted = [read_head(database)[1]]
    for _ in range(3):
        add(database)
        noted.append(read_head(database)[1])
    assert len(set(noted)) == 4
    assert [verify(database, head).faults for head in noted] == [[]] * 4


def test_entries_of_a_version_without_the_chain_are_chained_in_their_order_by_the_next_one(database):
    add_as_a_version_without_chain(database, "first", "second")
    assert (listed(database), verify(database).entries) == ([], 0)
    add(database, "third")
    add_as_a_version_without_chain(database, "fourth")  # while the versions run side by side
    add(database, "fifth")
    assert listed(database) == [(5, "fifth"), (4, "fourth"), (3, "third"), (2, "second"), (1, "first")]
    assert verify(database).faults == []


def test_many_entries_without_a_chain_are_adopted_a_part_at_a_time(database, monkeypatch):
    monkeypatch.setattr(trail, "_ADOPTED_AT_ONCE", 2)
    add_as_a_version_without_chain(database, "first", "second", "third")
    add(database, "new")
    add(database, "newer")
    order = ["first", "second", "new", "third", "newer"]
    assert [action for _, action in reversed(listed(database))] == order
    assert verify(database).faults == []


def test_an_entry_that_somebody_slipped_in_without_a_place_is_adopted_and_a_noted_head_does_not_tell(database):
    # Whoever has the database's password can add to the trail, as all our processes can, but not remove from it unseen.
    add(database)
    _, noted = read_head(database)
    add_as_a_version_without_chain(database, "forged")
    add(database)
    assert verify(database, noted).faults == []
    assert listed(database)[1] == (2, "forged")


def test_thirty_concurrent_writers_in_three_processes_make_one_chain(database, database_url):
    processes = [subprocess.Popen([sys.executable, "-c", WRITE_TOGETHER, database_url]) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    report = verify(database)
    assert (report.entries, report.faults) == (180, [])


def test_a_case_is_unread_until_this_key_has_read_its_result(database):
    (seen,), (looked_at,), (by_another,) = add(database, trail.CASE_READ), add(database, "image.read"), [uuid4()]
    with database.writing() as session:
        trail.audit(session, REVIEWER, trail.CASE_READ, [by_another], at(2))
    with database.reading() as session:
        unread = trail.find_unread(session, CLINIC, [seen, looked_at, by_another])
        assert unread == [looked_at, by_another]
        assert trail.find_unread(session, REVIEWER, [seen, by_another]) == [seen]
        assert trail.find_unread(session, CLINIC, []) == []


def test_a_list_is_newest_first_in_pages_and_can_be_of_one_case(database):
    for _ in range(3):
        add(database)
    (case_id,) = add(database, "case.submitted")
    with database.writing() as session:
        trail.audit(session, WORKER, "case.failed", [case_id], at(2))
        session.execute(update(AuditRow).where(AuditRow.position == 1).values(case_id=None))
    assert [position for position, _ in listed(database, limit=2)] == [5, 4]
    assert [position for position, _ in listed(database, before=4, limit=2)] == [3, 2]
    assert listed(database, before=1) == []
    assert listed(database, case_id) == [(5, "case.failed"), (4, "case.submitted")]
    assert listed(database, case_id, before=5) == [(4, "case.submitted")]
