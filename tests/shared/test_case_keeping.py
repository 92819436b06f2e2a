"""Cases that are requeued, counted and retained: what admins, limits and housekeeping ask of the store."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from shared.database import Database
from shared.domain import Case, Lease, Priority, Problem, State
from shared.errors import Conflict, NotFound
from shared.store import cases, objects, queue
from tests.factories import add_clinic
from tests.shared.steps import at, claim, give_back, load_model, record, reject, stored, submit

FAILURE = Problem(State.FAILED, "analysis_failed", "A person must look at this case.")


@pytest.fixture
def clinic_id(database) -> UUID:
    load_model(database)
    return add_clinic(database)


def fail(database: Database, lease: Lease, seconds: float = 1) -> None:
    with database.writing() as session:
        assert queue.record_problem(session, lease, FAILURE, at(seconds))


def requeue(database: Database, case_id: UUID, seconds: float = 2) -> Case:
    with database.writing() as session:
        return cases.requeue_case(session, case_id, at(seconds))


def count_waiting(database: Database, clinic_id: UUID, at_most: int = 100) -> int:
    with database.reading() as session:
        return cases.count_waiting_of(session, clinic_id, at_most)


def finished_before(database: Database, clinic_id: UUID, seconds: float, limit: int = 100) -> list[UUID]:
    with database.writing() as session:
        found = list(cases.list_finished_before(session, clinic_id, at(seconds), limit))
        assert cases.count_outdated(session, clinic_id, 30, at(seconds) + timedelta(days=30), limit) == len(found)
        return found


def delete(database: Database, case_id: UUID) -> None:
    with database.writing() as session:
        cases.delete_case(session, None, case_id, at(5))


def test_a_requeued_case_is_like_new_except_for_its_version_and_being_tried_alone(database, clinic_id):
    case = submit(database, clinic_id)
    (lease,) = claim(database)
    fail(database, lease)
    again = requeue(database, case.id)
    assert (again.state, again.problem, again.finished_at, again.version) == (State.QUEUED, None, None, 4)
    row = stored(database, case.id)
    assert (row["attempts"], row["alone"], row["available_at"]) == (0, True, at(2))
    submit(database, clinic_id)
    (new,) = claim(database, seconds=2)
    assert (new.case_id, new.alone, new.attempt) == (case.id, True, 1)
    assert [record(database, lease), reject(database, lease), give_back(database, lease)] == [False] * 3
    assert record(database, new)


def test_a_requeued_case_waits_behind_the_others_of_its_clinic_and_keeps_its_urgency(database, clinic_id):
    failed, urgent = submit(database, clinic_id), submit(database, clinic_id, priority=Priority.URGENT)
    for lease in claim(database):
        fail(database, lease)
    waiting = [submit(database, clinic_id, 1).id for _ in range(3)]
    requeue(database, failed.id)
    requeue(database, urgent.id)
    order = [lease.case_id for _ in range(5) for lease in claim(database, 1, 2)]
    assert order == [urgent.id, *waiting, failed.id]


@pytest.mark.parametrize("end", [None, record, reject], ids=["running", "succeeded", "rejected"])
def test_only_a_failed_case_is_requeued(database, clinic_id, end):
    case = submit(database, clinic_id)
    with pytest.raises(Conflict, match="case_not_failed"):
        requeue(database, case.id)
    (lease,) = claim(database)
    if end:
        end(database, lease)
    with pytest.raises(Conflict, match="case_not_failed"):
        requeue(database, case.id)


def test_a_failed_case_that_was_deleted_is_not_requeued(database, clinic_id):
    case = submit(database, clinic_id)
    fail(database, *claim(database))
    delete(database, case.id)
    for nothing in (case.id, uuid4()):
        with pytest.raises(NotFound, match="case_not_found"):
            requeue(database, nothing)


def test_only_a_clinics_own_waiting_cases_are_counted_and_no_further_than_asked(database, clinic_id):
    submit(database, clinic_id)
    assert len(claim(database)) == 1
    for clinic in (clinic_id, clinic_id, clinic_id, add_clinic(database)):
        submit(database, clinic)
    assert count_waiting(database, clinic_id) == 3
    assert count_waiting(database, clinic_id, at_most=2) == 2
    assert count_waiting(database, uuid4()) == 0


def test_cases_that_ended_long_ago_are_listed_oldest_first_up_to_the_limit(database, clinic_id):
    ended = [submit(database, clinic_id, second).id for second in range(3)]
    for second, lease in enumerate(sorted(claim(database, seconds=3), key=lambda lease: ended.index(lease.case_id))):
        (record, reject, fail)[second](database, lease, 10 + second)
    submit(database, clinic_id)
    assert finished_before(database, clinic_id, 10) == []
    assert finished_before(database, clinic_id, 12) == ended[:2]
    assert finished_before(database, clinic_id, 99, limit=1) == ended[:1]
    delete(database, ended[0])
    assert finished_before(database, clinic_id, 99) == ended[1:]
    assert finished_before(database, add_clinic(database), 99) == []


def test_a_case_is_known_for_ever_and_also_whether_its_objects_were_erased(database, clinic_id):
    case, other = submit(database, clinic_id).id, submit(database, clinic_id).id

    def known() -> dict[UUID, bool]:
        with database.reading() as session:
            return objects.find_known(session, {case, uuid4()})

    assert known() == {case: False}
    delete(database, case)
    delete(database, other)
    assert known() == {case: False}
    with database.writing() as session:
        objects.mark_erased(session, case, at(9))
    assert known() == {case: True}


def test_whether_any_case_was_submitted_in_a_period_is_known_even_of_deleted_ones(database, clinic_id):
    delete(database, submit(database, clinic_id, 5).id)
    with database.reading() as session:
        found = [objects.is_any_submitted(session, at(since), at(since + 4)) for since in (0, 1, 5, 6)]
    assert found == [False, True, True, False]
