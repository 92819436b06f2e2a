"""Messages to webhooks in the database: what a late failure changes, and which error is shown."""

from uuid import UUID

import pytest

from shared.store import cases, webhooks
from shared.store.webhooks import Delivery, KnownWebhook
from tests.factories import add_clinic, clinic_caller
from tests.shared.steps import at, submit


@pytest.fixture
def clinic_id(database) -> UUID:
    """A clinic with one webhook."""
    clinic_id = add_clinic(database)
    with database.writing() as session:
        webhooks.add_webhook(session, clinic_id, "https://clinic.example/hook", at(0))
    return clinic_id


def end_case(database, clinic_id: UUID, seconds: float) -> UUID:
    case_id = submit(database, clinic_id, seconds).id
    with database.writing() as session:
        cases.cancel_case(session, clinic_caller(clinic_id), case_id, at(seconds))
        webhooks.announce(session, [case_id], at(seconds))
    return case_id


def claim_one(database, seconds: float) -> Delivery:
    with database.writing() as session:
        (delivery,) = webhooks.claim_deliveries(session, 1, at(seconds))
        return delivery


def fail(database, delivery: Delivery, error: str, seconds: float, gone: bool = False) -> None:
    with database.writing() as session:
        webhooks.record_failure(session, delivery, error, at(seconds), gone)


def known(database) -> KnownWebhook:
    with database.reading() as session:
        (found,) = webhooks.list_webhooks(session, None)
        return found


@pytest.mark.parametrize("gone", [False, True])
def test_a_failure_that_is_recorded_late_does_not_undo_a_delivery(database, clinic_id, gone):
    end_case(database, clinic_id, 0)
    slow, prompt = claim_one(database, 0), claim_one(database, 200)
    assert slow.id == prompt.id
    with database.writing() as session:
        webhooks.record_delivered(session, prompt.id, at(201))
    fail(database, slow, "ReadTimeout", 202, gone)
    found = known(database)
    assert (found.pending, found.delivered, found.given_up) == (0, 1, 0)
    assert (found.last_error, found.disabled_at) == (None, None)


@pytest.mark.parametrize("order", [1, -1])
def test_the_error_that_is_shown_is_the_newest_messages_whichever_failed_last(database, clinic_id, order):
    errors = {end_case(database, clinic_id, 0): "status_500", end_case(database, clinic_id, 9): "ReadTimeout"}
    claimed = [claim_one(database, 10) for _ in errors]
    for delivery in claimed[::order]:
        fail(database, delivery, errors[delivery.case_id], 11)
    assert known(database).last_error == "ReadTimeout"
