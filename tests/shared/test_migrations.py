"""The migrations make exactly the tables that the code expects, from nothing and back."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from alembic import command
from sqlalchemy import CheckConstraint, event, inspect, select, text, update

from shared.database import Database, read_clock
from shared.domain import Caller, Role, Verdict
from shared.errors import ConfigurationInvalid
from shared.migrations import _config, check_upgraded, find_drift, read_migration, upgrade
from shared.service_tables import ReviewRow
from shared.store import cases, reviews, submissions
from shared.tables import ApiKeyRow, CaseRow, SubmissionRow, Table
from tests.factories import add_case, add_clinic, add_key, clinic_caller
from tests.shared.steps import at
from tests.waiting import wait_until

UPGRADE = """
import sys
from shared.database import open_database
from shared.migrations import upgrade
upgrade(open_database(sys.argv[1]))
"""


def downgrade(database: Database, revision: str = "base") -> None:
    with database.writer.begin() as connection:
        command.downgrade(_config(connection), revision)


def count_waiting_locks(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))


@pytest.fixture
def empty_database(database) -> Database:
    with database.writer.begin() as connection:
        Table.metadata.drop_all(connection)
        connection.execute(text("DROP TABLE alembic_version"))
    assert inspect(database.engine).get_table_names() == []
    return database


def test_upgrading_from_nothing_makes_exactly_the_tables_of_the_code(empty_database):
    upgrade(empty_database)
    check_upgraded(empty_database)
    assert find_drift(empty_database) == []


def test_the_check_constraints_are_those_of_the_code(database):
    # Alembic's comparison does not look at them.
    inspector = inspect(database.engine)
    for table in Table.metadata.sorted_tables:
        expected = {constraint.name for constraint in table.constraints if isinstance(constraint, CheckConstraint)}
        assert {check["name"] for check in inspector.get_check_constraints(table.name)} == expected


@pytest.mark.parametrize("change", ["DROP INDEX ix_cases_waiting", "ALTER TABLE cases ADD COLUMN extra INTEGER"])
def test_a_table_that_differs_from_the_code_is_found(database, change):
    with database.writer.begin() as connection:
        connection.execute(text(change))
    assert len(find_drift(database)) == 1


def test_a_database_that_was_never_upgraded_is_refused_with_the_command_to_run(empty_database):
    with pytest.raises(ConfigurationInvalid) as caught:
        check_upgraded(empty_database)
    assert caught.value.code == "database_not_upgraded"
    assert "is at migration none" in caught.value.detail
    assert "Run `dermqueue db upgrade`." in caught.value.detail


def test_a_database_of_another_version_is_refused_by_its_migration(database):
    with database.writer.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'of_another_version'"))
    with pytest.raises(ConfigurationInvalid, match="is at migration of_another_version, this version needs 0"):
        check_upgraded(database)


def test_upgrading_again_changes_nothing_and_keeps_every_row(database):
    add_clinic(database, "Clinic")
    upgrade(database)
    with database.reading() as session:
        assert session.scalar(text("SELECT name FROM clinics")) == "Clinic"


def test_processes_that_start_together_may_all_upgrade(empty_database, database_url):
    processes = [subprocess.Popen([sys.executable, "-c", UPGRADE, database_url]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    assert find_drift(empty_database) == []


def test_what_was_applied_before_a_failure_stays_and_the_next_upgrade_goes_on_from_there(database):
    downgrade(database, "0007")

    def fail(_connection, _cursor, statement, *_) -> None:
        if "review_base" in statement:
            raise RuntimeError

    event.listen(database.engine, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError):
        upgrade(database)
    event.remove(database.engine, "before_cursor_execute", fail)
    assert read_migration(database) == "0008"
    upgrade(database)
    assert find_drift(database) == []


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("change", ["review_base", "width"])
def test_a_case_can_be_read_while_a_migration_changes_many_others(database, change):
    clinic_id = add_clinic(database)
    case = add_case(database, clinic_id)
    downgrade(database, "0007")
    read = []

    def read_before(_connection, _cursor, statement, *_) -> None:
        if statement.strip().startswith("UPDATE cases") and f"SET {change}" in statement:
            with database.reading() as session:
                session.execute(text("SET LOCAL lock_timeout = '100ms'"))
                read.append(cases.read_case(session, clinic_caller(clinic_id), case.id).id)

    event.listen(database.engine, "before_cursor_execute", read_before)
    upgrade(database)
    assert read == [case.id]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_an_upgrade_releases_all_locks_while_a_table_is_in_use_and_proceeds_once_it_is_free(database):
    downgrade(database, "0001")
    with ThreadPoolExecutor(1) as thread:
        with database.reading() as session:
            session.execute(text("SELECT name FROM clinics"))
            upgraded = thread.submit(upgrade, database)
            wait_until(lambda: count_waiting_locks(database) == 1)
            wait_until(lambda: count_waiting_locks(database) == 0)
            assert not upgraded.done()
        upgraded.result()
    assert find_drift(database) == []


def test_downgrading_leaves_no_table_and_upgrading_works_again(database):
    add_clinic(database)
    downgrade(database)
    assert inspect(database.engine).get_table_names() == ["alembic_version"]
    upgrade(database)
    assert find_drift(database) == []


def test_digests_of_submissions_whose_cases_were_deleted_earlier_are_removed(database):
    clinic_id = add_clinic(database)
    kept, deleted = (add_case(database, clinic_id) for _ in range(2))
    with database.writing() as session:
        now = read_clock(session)
        session.execute(update(CaseRow).where(CaseRow.id == deleted.id).values(deleted_at=now))
        for case in (kept, deleted):
            submission_id = uuid4()
            submissions.add_submission(session, submission_id, clinic_id, f"key of {case.id}", "f" * 64, now)
            submissions.add_item(session, submission_id, 1, "", case.id)
    downgrade(database, "0006")
    upgrade(database)
    with database.reading() as session:
        rows = session.execute(select(SubmissionRow.idempotency_key, SubmissionRow.request_sha256))
        assert {*map(tuple, rows)} == {(f"key of {kept.id}", "f" * 64), (None, "")}


def test_sizes_of_photographs_that_were_erased_earlier_are_removed(database):
    clinic_id = add_clinic(database)
    kept, erased = (add_case(database, clinic_id) for _ in range(2))
    with database.writing() as session:
        session.execute(update(CaseRow).where(CaseRow.id == erased.id).values(deleted_at=read_clock(session)))
    downgrade(database, "0009")
    upgrade(database)
    with database.reading() as session:
        sizes = {row.id: (row.width, row.height, row.size_bytes) for row in session.query(CaseRow)}
    photograph = kept.photograph
    assert sizes == {kept.id: (photograph.width, photograph.height, photograph.size_bytes), erased.id: (0, 0, 0)}


def test_reviews_of_an_earlier_attempt_no_longer_stand(database):
    clinic_id = add_clinic(database)
    add_key(database, Role.REVIEWER)
    ends = {"again": 9, "waiting": None, "still": 1}  # each was reviewed at second 5
    ids = {name: add_case(database, clinic_id).id for name in ends}
    with database.writing() as session:
        key_id = session.scalar(select(ApiKeyRow.id))
        for name, end_s in ends.items():
            finished_at = None if end_s is None else at(end_s)
            session.execute(update(CaseRow).where(CaseRow.id == ids[name]).values(finished_at=finished_at))
            said = {"version": 1, "verdict": Verdict.DISAGREE, "key_id": key_id, "reviewed_at": at(5)}
            session.add(ReviewRow(case_id=ids[name], **said))
    downgrade(database, "0008")
    upgrade(database)
    with database.reading() as session:
        bases = {name: session.get(CaseRow, case_id).review_base for name, case_id in ids.items()}
    assert bases == {"again": 2, "waiting": 2, "still": 0}
    with database.writing() as session:  # as the previous version does, which does not know the column
        said |= {"version": 2, "verdict": Verdict.AGREE, "reviewed_at": at(10)}
        session.add(ReviewRow(case_id=ids["again"], **said))
    with database.reading() as session:
        reviewer = Caller(uuid4(), Role.REVIEWER, None)
        stands = {name: reviews.read_reviews(session, reviewer, case_id).stands for name, case_id in ids.items()}
    assert {name: review and review.version for name, review in stands.items()} == {
        "again": 2,
        "waiting": None,
        "still": 1,
    }
