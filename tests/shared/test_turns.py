"""Which waiting case comes first: urgent ones, and then every clinic in its turn."""

from collections import Counter
from uuid import UUID

import pytest
from sqlalchemy import text

from shared.domain import Priority
from tests.factories import add_clinic
from tests.shared.steps import claim, give_back, load_model, reject, submit, sweep


@pytest.fixture
def clinic_id(database) -> UUID:
    load_model(database)
    return add_clinic(database)


def test_urgent_cases_come_before_every_routine_one(database, clinic_id):
    clinics = {clinic_id, add_clinic(database)}
    for clinic in clinics:
        submit(database, clinic)
    urgent = {submit(database, clinic_id, 9, priority=Priority.URGENT).id for _ in range(3)}
    assert {lease.case_id for lease in claim(database, 3, 9)} == urgent
    assert {lease.clinic_id for lease in claim(database, 3, 9)} == clinics


def test_a_single_case_waits_one_turn_behind_a_clinic_that_sent_fifty(database, clinic_id):
    for second in range(50):
        submit(database, clinic_id, second)
    assert len(claim(database, 10, 60)) == 10
    case = submit(database, add_clinic(database), 60)
    assert case.id in {lease.case_id for lease in claim(database, 2, 60)}


def test_a_clinic_that_was_idle_has_saved_up_no_credit(database, clinic_id):
    idle = add_clinic(database)
    for second in range(30):
        submit(database, clinic_id, second)
    claim(database, 15, 60)
    for second in range(30, 60):
        submit(database, idle, second)
    served = Counter(lease.clinic_id for lease in claim(database, 10, 60))
    assert served == {clinic_id: 5, idle: 5}


def test_within_a_turn_the_oldest_comes_first(database, clinic_id):
    seconds = {clinic_id: 2, add_clinic(database): 0, add_clinic(database): 1}
    for clinic, second in seconds.items():
        submit(database, clinic, second)
    with database.writing() as session:
        session.execute(text("DROP INDEX ix_cases_waiting"))  # by which a wrong query might come right by chance
    assert [seconds[claim(database, 1, 9)[0].clinic_id] for _ in seconds] == [0, 1, 2]


def test_a_postponed_case_gives_no_other_clinic_its_early_turn(database, clinic_id):
    (early,) = [submit(database, clinic_id) for _ in range(10)][:1]
    for lease in claim(database, limit=5):
        if lease.case_id == early.id:
            give_back(database, lease, seconds=60)
        else:
            reject(database, lease)
    latecomer = submit(database, add_clinic(database), seconds=1)
    first = [lease.case_id for lease in claim(database, limit=1, seconds=1)]
    assert first != [latecomer.id]


def test_a_case_that_came_back_from_a_lost_lease_gives_no_other_clinic_its_early_turn(database, clinic_id):
    lost, *_ = [submit(database, clinic_id).id for _ in range(30)]
    for lease in claim(database, 15):
        if lease.case_id != lost:
            reject(database, lease)
    assert sweep(database, 61).returned == 1
    idle = add_clinic(database)
    for _ in range(10):
        submit(database, idle, 61)
    assert [lease.case_id for lease in claim(database, 10, 61)] == [lost]
    assert Counter(lease.clinic_id for lease in claim(database, 10, 61)) == {clinic_id: 5, idle: 5}


def test_where_all_that_wait_have_come_back_an_idle_clinic_takes_turns_with_them(database, clinic_id):
    for _ in range(30):
        submit(database, clinic_id)
    for lease in claim(database, 15):
        reject(database, lease)
    for lease in claim(database, 15):
        give_back(database, lease, 5)
    idle = add_clinic(database)
    for _ in range(10):
        submit(database, idle, 1)
    assert Counter(lease.clinic_id for lease in claim(database, 10, 5)) == {clinic_id: 5, idle: 5}
