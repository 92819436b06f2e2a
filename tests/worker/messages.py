"""Webhooks in tests: added, given something to announce, delivered to."""

from uuid import UUID

from sqlalchemy import update

from shared.database import Database, read_clock
from shared.service_tables import DeliveryRow
from shared.store import cases, webhooks
from shared.store.webhooks import KnownWebhook
from tests.factories import add_case, clinic_caller
from worker.webhooks import _AT_ONCE, Courier


def add_webhook(database: Database, clinic_id: UUID, url: str) -> str:
    with database.writing() as session:
        return webhooks.add_webhook(session, clinic_id, url, read_clock(session))[1]


def end_case(database: Database, clinic_id: UUID) -> UUID:
    """Cancel a case, which is the shortest way to an end, and announce it."""
    case_id = add_case(database, clinic_id, reference="Mrs Miller").id
    with database.writing() as session:
        now = read_clock(session)
        cases.cancel_case(session, clinic_caller(clinic_id), case_id, now)
        webhooks.announce(session, [case_id], now)
    return case_id


def known(database: Database) -> KnownWebhook:
    with database.reading() as session:
        (found,) = webhooks.list_webhooks(session, None)
        return found


def make_due(database: Database) -> None:
    with database.writing() as session:
        waiting = DeliveryRow.due_at.is_not(None)
        session.execute(update(DeliveryRow).where(waiting).values(due_at=read_clock(session)))


def await_sent(courier: Courier) -> None:
    """Wait until nothing is being sent."""
    for _ in range(_AT_ONCE):
        courier._seats.acquire()
    courier._seats.release(_AT_ONCE)


def deliver(database: Database, attempts: int = 1, local_allowed: bool = True) -> None:
    """Deliver what is due, this many times, and wait until it is done each time."""
    courier = Courier(database, local_allowed)
    for _ in range(attempts):
        make_due(database)
        courier.deliver_due()
        await_sent(courier)
