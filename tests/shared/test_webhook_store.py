"""When a webhook is given up on, and when one message alone is."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from threading import Barrier, BrokenBarrierError
from uuid import UUID

import pytest
from sqlalchemy import event, update

from shared.database import Database
from shared.store import webhooks
from shared.store.webhooks import RETRY_AFTER_S, Delivery, KnownWebhook
from shared.tables import CaseRow
from tests.factories import add_clinic
from tests.shared.steps import at, submit


@pytest.fixture
def messages(database) -> list[Delivery]:
    """Three messages to one webhook, made at seconds 1 to 3 and already claimed."""
    clinic_id = add_clinic(database)
    with database.writing() as session:
        webhooks.add_webhook(session, clinic_id, "https://clinic.example/hook", at(0))
    cases = [submit(database, clinic_id).id for _ in range(3)]
    with database.writing() as session:
        session.execute(update(CaseRow).values(state="cancelled"))
        for second, case_id in enumerate(cases, 1):
            webhooks.announce(session, [case_id], at(second))
        return list(webhooks.claim_deliveries(session, 3, at(9)))


def take(database: Database, message: Delivery, second: float) -> None:
    with database.writing() as session:
        webhooks.record_delivered(session, message.id, at(second))


def fail_for_the_last_time(database: Database, message: Delivery, gone: bool = False) -> bool:
    last = replace(message, attempt=len(RETRY_AFTER_S) + 1)
    with database.writing() as session:
        return webhooks.record_failure(session, last, "status_500", at(99), gone)


def known(database: Database, clinic_id: UUID | None = None) -> KnownWebhook:
    with database.reading() as session:
        return webhooks.list_webhooks(session, clinic_id)[0]


def test_a_message_that_is_never_accepted_is_given_up_alone_if_others_were_accepted_meanwhile(database, messages):
    first, second, _ = messages
    take(database, second, 20)
    assert fail_for_the_last_time(database, first)
    found = known(database)
    assert (found.disabled_at, found.pending, found.delivered, found.given_up) == (None, 1, 1, 1)


@pytest.mark.parametrize(("taken_at", "gone"), [(None, False), (1.5, False), (20, True)])
def test_a_webhook_that_accepts_nothing_any_more_or_is_gone_is_disabled(database, messages, taken_at, gone):
    first, second, _ = messages
    if taken_at:
        take(database, first, taken_at)
    assert not fail_for_the_last_time(database, second, gone)
    found = known(database)
    assert (found.disabled_at, found.pending, found.given_up) == (at(99), 0, 2 if taken_at else 3)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_webhook_that_says_to_several_messages_at_once_that_it_is_gone_is_given_up_without_a_deadlock(
    database, messages
):
    all_held = Barrier(len(messages))

    def meet(_connection, _cursor, statement: str, *_) -> None:
        if statement.startswith("UPDATE webhook_deliveries"):
            with suppress(BrokenBarrierError):  # as soon as one waits for another, not all can come
                all_held.wait(1)

    event.listen(database.engine, "after_cursor_execute", meet)
    with ThreadPoolExecutor(len(messages)) as threads:
        assert not any(threads.map(lambda message: fail_for_the_last_time(database, message, gone=True), messages))
    assert (known(database).disabled_at, known(database).given_up) == (at(99), 3)
