"""Who has a case open, noted by requests that come at the same time."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.database import Database
from shared.domain import Caller, Role
from shared.service_tables import OpeningRow
from shared.store import access, reviews
from tests.factories import add_clinic, add_key
from tests.shared.steps import at, submit
from tests.waiting import is_waiting_for_a_lock, wait_until


@pytest.fixture
def reviewer(database) -> Caller:
    key = add_key(database, Role.REVIEWER)
    with database.reading() as session:
        return access.authenticate(session, key)


def seen_at(database: Database) -> list[object]:
    with database.reading() as session:
        return list(session.scalars(select(OpeningRow.seen_at)))


def test_a_reviewer_who_opens_a_case_again_has_it_open_once_from_then_on(database, reviewer):
    case_id = submit(database, add_clinic(database)).id
    for second in (1, 2):
        with database.writing() as session:
            reviews.note_opened(session, reviewer, case_id, at(second))
    assert seen_at(database) == [at(2)]


MEANWHILE: dict[str, Callable[[Session, Caller, object], object]] = {
    "opens": lambda session, reviewer, case_id: reviews.note_opened(session, reviewer, case_id, at(2)),
    "closes": reviews.note_closed,
}


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
@pytest.mark.parametrize("was_open", [False, True])
@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
def test_a_case_can_be_opened_while_the_same_reviewer_opens_or_closes_it(database, reviewer, was_open, meanwhile):
    case_id = submit(database, add_clinic(database)).id

    def open_case(second: float) -> None:
        with database.writing() as session:
            reviews.note_opened(session, reviewer, case_id, at(second))

    if was_open:
        open_case(1)
    with ThreadPoolExecutor() as pool:
        with database.writing() as session:
            meanwhile(session, reviewer, case_id)
            opening = pool.submit(open_case, 3)
            wait_until(lambda: opening.done() or is_waiting_for_a_lock(database))
        opening.result(timeout=20)
    assert seen_at(database) == [at(3)]
