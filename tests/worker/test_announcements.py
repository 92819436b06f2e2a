"""However a worker ends a case, the clinic's webhooks are told, and told in the transaction that ends it."""

from collections.abc import Callable
from uuid import UUID

import pytest
from sqlalchemy import select, update

from shared.database import Database, read_clock
from shared.domain import MAX_ATTEMPTS, State
from shared.service_tables import DeliveryRow
from shared.store import queue, webhooks
from shared.tables import CaseRow
from tests.factories import add_case, add_photograph
from tests.worker.test_triage import jpeg, lapse_leases
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
def test_each_end_is_told_once(make_triage, database, store, clinic_id, webhook_id, prepare, state):
    end = prepare(make_triage, database, store, clinic_id)
    for _ in range(2):
        end()
    assert state_of_the_case(database) is state
    assert told(database) == [(webhook_id, state)]


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


def test_a_case_whose_worker_was_lost_is_not_told_while_it_has_attempts_left(
    make_triage, database, clinic_id, webhook_id
):
    triage = lose(make_triage, database, clinic_id)
    with database.writing() as session:
        session.execute(update(CaseRow).values(attempts=1))
    triage.sweep()
    assert (state_of_the_case(database), told(database)) == (State.QUEUED, [])
