"""However a worker ends a case, the clinic's webhooks are notified, in the transaction that ends it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.domain import MAX_ATTEMPTS, State
from shared.errors import Unavailable
from shared.service_tables import DeliveryRow
from shared.store import queue, trail, webhooks
from shared.tables import AnalysisRow, CaseRow
from tests.factories import add_case, add_photograph
from tests.worker.steps import jpeg, lapse_leases
from worker.triage import Triage


@pytest.fixture
def webhook_id(database, clinic_id) -> UUID:
    with database.writing() as session:
        return webhooks.add_webhook(session, clinic_id, "https://clinic.example/hook", read_clock(session))[0]


def succeed(make_triage, database, store, clinic_id) -> Callable[[], None]:
    add_photograph(database, store, clinic_id, jpeg())
    return make_triage().analyze_waiting


def reject(make_triage, database, store, clinic_id) -> Callable[[], None]:
    add_photograph(database, store, clinic_id, jpeg()[:2000])
    return make_triage().analyze_waiting


def fail(make_triage, database, store, clinic_id) -> Callable[[], None]:
    add_case(database, clinic_id)  # its photograph is not there
    return make_triage().analyze_waiting


def lose(make_triage, database, clinic_id) -> Triage:
    """Leave a case behind whose last worker never came back."""
    add_case(database, clinic_id)
    with database.writing() as session:
        session.execute(update(CaseRow).values(attempts=MAX_ATTEMPTS - 1))
        queue.claim_cases(session, 1, 60, read_clock(session))
    lapse_leases(database)
    return make_triage()


def give_up_in_a_sweep(make_triage, database, store, clinic_id) -> Callable[[], None]:
    return lose(make_triage, database, clinic_id).sweep


def give_up_before_a_claim(make_triage, database, store, clinic_id) -> Callable[[], None]:
    return lose(make_triage, database, clinic_id).analyze_waiting


def told(database: Database) -> list[tuple[UUID, str]]:
    with database.reading() as session:
        return [tuple(row) for row in session.execute(select(DeliveryRow.webhook_id, DeliveryRow.state))]


def state_of_the_case(database: Database) -> State:
    with database.reading() as session:
        return State(session.scalar(select(CaseRow.state)))


class LostAnswer:
    """A database whose answer to the first commit of a result is lost on the way."""

    def __init__(self, database: Database):
        self._database, self.answer_was_lost = database, False

    def __getattr__(self, name: str):
        return getattr(self._database, name)

    @contextmanager
    def writing(self) -> Iterator[Session]:
        with self._database.writing() as session:
            yield session
            recorded = session.scalar(select(AnalysisRow.case_id).limit(1)) is not None
        if recorded and not self.answer_was_lost:
            self.answer_was_lost = True
            raise Unavailable("database_unavailable", "The answer was lost.")


ENDS = pytest.mark.parametrize(
    ("prepare", "state"),
    [
        (succeed, State.SUCCEEDED),
        (reject, State.REJECTED),
        (fail, State.FAILED),
        (give_up_in_a_sweep, State.FAILED),
        (give_up_before_a_claim, State.FAILED),
    ],
)


@ENDS
def test_each_end_is_announced_once(make_triage, database, store, clinic_id, webhook_id, prepare, state):
    end = prepare(make_triage, database, store, clinic_id)
    for _ in range(2):
        end()
    assert state_of_the_case(database) is state
    assert told(database) == [(webhook_id, state)]


@ENDS
def test_each_end_is_audited_once(make_triage, database, store, clinic_id, prepare, state):
    end = prepare(make_triage, database, store, clinic_id)
    for _ in range(2):
        end()
    with database.reading() as session:
        entries = trail.list_entries(session, None, before=None, limit=10)
    assert [(entry.action, entry.role) for entry in entries] == [(f"case.{state}", "worker")]


@ENDS
def test_no_case_ends_without_its_message(
    make_triage, database, store, clinic_id, webhook_id, prepare, state, monkeypatch
):
    end = prepare(make_triage, database, store, clinic_id)

    def break_down(*_):
        raise RuntimeError("in the middle of the transaction")

    monkeypatch.setattr(webhooks, "announce", break_down)
    with pytest.raises(RuntimeError, match="in the middle"):
        end()
    assert not state_of_the_case(database).is_final


def test_a_case_whose_worker_was_lost_is_not_announced_while_it_has_attempts_left(
    make_triage, database, clinic_id, webhook_id
):
    triage = lose(make_triage, database, clinic_id)
    with database.writing() as session:
        session.execute(update(CaseRow).values(attempts=1))
    triage.sweep()
    assert (state_of_the_case(database), told(database)) == (State.QUEUED, [])


def test_a_result_that_is_recorded_twice_is_announced_and_audited_once(
    make_triage, database, store, clinic_id, webhook_id
):
    add_photograph(database, store, clinic_id, jpeg())
    unlucky = LostAnswer(database)
    make_triage(database=unlucky).analyze_waiting()
    assert unlucky.answer_was_lost
    assert told(database) == [(webhook_id, "succeeded")]
    with database.reading() as session:
        entries = trail.list_entries(session, None, before=None, limit=10)
        assert [entry.action for entry in entries].count("case.succeeded") == 1
