"""A worker that is told to stop finishes what it has in hand and starts nothing more."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

import pytest
from sqlalchemy import func, select

from shared.domain import State
from shared.service_tables import DeliveryRow
from tests.factories import add_case, add_photograph
from tests.servers.receiver import running_receiver
from tests.worker.messages import add_webhook, await_sent, end_case, known
from tests.worker.steps import deleted, end, jpeg, keep_for, open_upload, open_uploads, state_of
from worker import housekeeping
from worker.housekeeping import Housekeeping
from worker.webhooks import _AT_ONCE, Courier


@pytest.fixture
def stopping() -> Event:
    return Event()


def test_no_further_batch_is_taken(make_triage, database, store, clinic_id):
    case = add_photograph(database, store, clinic_id, jpeg())
    triage = make_triage()
    triage.stopping.set()
    triage.analyze_waiting()
    assert state_of(database, case)[0] == State.QUEUED


def test_whoever_waited_for_a_seat_takes_no_batch_either(make_triage, database, store, clinic_id, monkeypatch):
    case = add_photograph(database, store, clinic_id, jpeg())
    triage = make_triage()

    @contextmanager
    def told_while_waiting(everything: bool) -> Iterator[None]:
        triage.stopping.set()
        yield

    monkeypatch.setattr(triage._seats, "taken", told_while_waiting)
    triage.analyze_waiting()
    assert state_of(database, case)[0] == State.QUEUED


def test_messages_already_begun_are_sent_and_no_others(database, clinic_id, stopping):
    with running_receiver() as receiver:
        add_webhook(database, clinic_id, receiver.url)
        for _ in range(40):
            end_case(database, clinic_id)
        courier = Courier(database, True, stopping)
        courier.deliver_due()
        stopping.set()
        await_sent(courier)
        told = len(receiver.messages)
    assert told < 40
    assert (known(database).delivered, known(database).pending) == (told, 40 - told)


def test_no_attempt_counts_for_a_message_that_a_stopping_courier_does_not_send(
    database, clinic_id, stopping, monkeypatch
):
    def send_the_last(*_) -> tuple[None, bool]:
        stopping.set()
        return None, False

    monkeypatch.setattr(Courier, "_send", send_the_last)
    add_webhook(database, clinic_id, "https://clinic.example/hook")
    for _ in range(40):
        end_case(database, clinic_id)
    courier = Courier(database, True, stopping)
    for _ in range(2):
        courier.deliver_due()
        await_sent(courier)
    with database.reading() as session:
        assert session.scalar(select(func.sum(DeliveryRow.attempts))) == _AT_ONCE


def test_a_purge_stops_after_one_transaction_and_deletes_no_object(database, store, clinic_id, stopping, monkeypatch):
    monkeypatch.setattr(housekeeping, "_AT_ONCE", 2)
    keep_for(database, clinic_id, 1)
    for _ in range(4):
        end(database, add_case(database, clinic_id), State.FAILED, 2)
    upload_id = open_upload(database, store, clinic_id, 2)
    stopping.set()
    assert not Housekeeping(database, store, stopping).purge()
    assert (len(deleted(database)), open_uploads(database)) == (2, {upload_id})
