"""Messages to webhooks, sent to a real server and checked by the standard's own library; and those not to be sent."""

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import httpcore
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from deploy.embedded.program import find_free_port
from shared.database import read_clock
from shared.service_tables import DeliveryRow
from shared.store import cases, webhooks
from tests.factories import add_case, add_clinic, clinic_caller
from tests.servers.receiver import Receiver, running_receiver
from tests.servers.trickler import running_trickler
from tests.waiting import is_waiting_for_a_lock, wait_until
from tests.worker.messages import add_webhook, await_sent, deliver, end_case, known
from worker import webhooks as courier_module
from worker.webhooks import Courier


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


@pytest.fixture
def clinic_id(database) -> UUID:
    return add_clinic(database)


def test_a_webhook_is_told_how_a_case_ended_and_nothing_of_the_patient(database, clinic_id, receiver):
    secret = add_webhook(database, clinic_id, receiver.url)
    case_id = end_case(database, clinic_id)
    deliver(database)
    ((headers, body),) = receiver.messages
    message = Webhook(secret).verify(body, headers)
    assert message == json.loads(body)
    assert (message["type"], message["data"]) == ("case.cancelled", {"case_id": str(case_id), "state": "cancelled"})
    assert sorted(message) == ["data", "timestamp", "type"]
    assert (known(database).pending, known(database).delivered) == (0, 1)


def test_another_clinics_cases_are_not_announced(database, clinic_id, receiver):
    add_webhook(database, clinic_id, receiver.url)
    end_case(database, add_clinic(database))
    deliver(database)
    assert receiver.messages == []


def test_what_is_delivered_is_not_sent_again_and_many_are_sent_in_one_go(database, clinic_id, receiver):
    add_webhook(database, clinic_id, receiver.url)
    for _ in range(40):
        end_case(database, clinic_id)
    courier = Courier(database, local_allowed=True)
    courier.deliver_due()
    wait_until(lambda: known(database).delivered == 40)
    courier.deliver_due()
    await_sent(courier)
    assert len({headers["webhook-id"] for headers, _ in receiver.messages}) == len(receiver.messages) == 40


@pytest.mark.parametrize("status", [500, 404, 302])
def test_a_message_that_is_not_accepted_is_sent_again_under_the_same_id(database, clinic_id, receiver, status):
    add_webhook(database, clinic_id, receiver.url)
    end_case(database, clinic_id)
    receiver.status = status
    deliver(database)
    assert (known(database).pending, known(database).last_error) == (1, f"status_{status}")
    receiver.status = 200
    deliver(database)
    assert (known(database).delivered, known(database).last_error) == (1, None)
    assert len({headers["webhook-id"] for headers, _ in receiver.messages}) == 1


def test_a_failed_attempt_is_repeated_after_its_pause_and_not_before(database, clinic_id, receiver):
    add_webhook(database, clinic_id, receiver.url)
    end_case(database, clinic_id)
    receiver.status = 500
    deliver(database, attempts=2)
    with database.reading() as session:
        pause = session.query(DeliveryRow.due_at).scalar() - read_clock(session)
    assert 290 < pause.total_seconds() <= 300
    Courier(database, local_allowed=True).deliver_due()
    assert len(receiver.messages) == 2


def test_after_the_last_attempt_the_webhook_is_disabled_until_it_is_enabled(database, clinic_id, receiver):
    add_webhook(database, clinic_id, f"http://127.0.0.1:{find_free_port()}/hook")
    for _ in range(2):
        end_case(database, clinic_id)
    deliver(database, attempts=1 + len(webhooks.RETRY_AFTER_S))
    found = known(database)
    assert (found.pending, found.given_up, found.last_error) == (0, 2, "ConnectError")
    assert found.disabled_at is not None
    end_case(database, clinic_id)
    assert known(database).pending == 0
    with database.writing() as session:
        webhooks.enable_webhook(session, clinic_id, found.id)
    end_case(database, clinic_id)
    assert known(database).pending == 1


def test_a_webhook_that_says_it_is_gone_is_disabled_at_once(database, clinic_id, receiver):
    add_webhook(database, clinic_id, receiver.url)
    end_case(database, clinic_id)
    receiver.status = 410
    deliver(database)
    assert (known(database).given_up, known(database).disabled_at is None) == (1, False)


@pytest.mark.parametrize("address", ["http://127.0.0.1:{}", "https://127.0.0.1:{}", "https://localhost:{}"])
def test_nothing_is_sent_to_the_local_network(database, clinic_id, receiver, address):
    add_webhook(database, clinic_id, address.format(receiver.server_port))
    end_case(database, clinic_id)
    deliver(database, local_allowed=False)
    assert (known(database).last_error, receiver.messages) == ("address_refused", [])


def test_a_message_whose_sender_died_is_sent_by_another(database, clinic_id, receiver):
    add_webhook(database, clinic_id, receiver.url)
    end_case(database, clinic_id)
    with database.writing() as session:
        assert len(webhooks.claim_deliveries(session, 10, read_clock(session))) == 1
    with database.writing() as session:
        assert webhooks.claim_deliveries(session, 10, read_clock(session)) == []
    deliver(database)
    assert known(database).delivered == 1


def test_a_name_that_cannot_be_resolved_is_retried_like_any_other_failure(database, clinic_id):
    add_webhook(database, clinic_id, "https://clinic..example/hook")
    end_case(database, clinic_id)
    for local_allowed in (True, False):
        deliver(database, local_allowed=local_allowed)
        assert (known(database).pending, known(database).last_error) == (1, "UnicodeError")


def test_a_response_that_never_comes_is_not_waited_for(database, clinic_id, receiver, monkeypatch):
    monkeypatch.setattr(courier_module, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        add_webhook(database, clinic_id, f"http://127.0.0.1:{silent.getsockname()[1]}/")
        end_case(database, clinic_id)
        deliver(database)
    assert (known(database).pending, known(database).last_error) == (1, "ReadTimeout")


def test_a_response_that_trickles_in_is_not_waited_for_and_holds_up_no_other_clinic(
    database, clinic_id, receiver, monkeypatch
):
    monkeypatch.setattr(courier_module, "_TIMEOUT_S", 3)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    with running_trickler(interim, interim) as slow_url:
        add_webhook(database, clinic_id, slow_url)
        for _ in range(courier_module._AT_ONCE - 1):
            end_case(database, clinic_id)
        other = add_clinic(database)
        add_webhook(database, other, receiver.url)
        end_case(database, other)
        courier = Courier(database, local_allowed=True)
        courier.deliver_due()
        await_sent(courier)
    with database.reading() as session:
        held_up, prompt = webhooks.list_webhooks(session, None)
    assert (held_up.pending, held_up.last_error) == (courier_module._AT_ONCE - 1, "ReadTimeout")
    assert (prompt.delivered, prompt.last_error) == (1, None)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_webhook_that_is_removed_while_a_case_ends_is_not_told_and_undoes_nothing(database, clinic_id):
    add_webhook(database, clinic_id, "https://clinic.example/hook")
    case_id = add_case(database, clinic_id).id

    def end() -> None:
        with database.writing() as session:
            cases.cancel_case(session, clinic_caller(clinic_id), case_id, read_clock(session))
            webhooks.announce(session, [case_id], read_clock(session))

    with ThreadPoolExecutor() as pool:
        with database.writing() as session:
            webhooks.remove_webhook(session, clinic_id, known(database).id)
            ending = pool.submit(end)
            wait_until(lambda: is_waiting_for_a_lock(database))
        ending.result(timeout=20)
    with database.reading() as session:
        assert cases.read_case(session, None, case_id).state == "cancelled"
        assert session.query(DeliveryRow).count() == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_webhook_is_removed_together_with_the_message_of_a_case_that_is_just_ending(database, clinic_id):
    add_webhook(database, clinic_id, "https://clinic.example/hook")
    case_id, webhook_id = add_case(database, clinic_id).id, known(database).id

    def remove() -> None:
        with database.writing() as session:
            webhooks.remove_webhook(session, clinic_id, webhook_id)

    with ThreadPoolExecutor() as pool:
        with database.writing() as session:
            webhooks.announce(session, [case_id], read_clock(session))
            removing = pool.submit(remove)
            wait_until(lambda: is_waiting_for_a_lock(database))
        removing.result(timeout=20)
    with database.reading() as session:
        assert (webhooks.list_webhooks(session, None), session.query(DeliveryRow).count()) == ([], 0)


def test_an_address_that_does_not_answer_leaves_time_for_the_next(database, clinic_id, receiver, monkeypatch):
    connect, asked = httpcore.SyncBackend.connect_tcp, []

    def fall_silent(self, host, port, timeout, *others):
        asked.append((host, timeout))
        if host == "127.0.0.2":
            raise httpcore.ConnectTimeout
        return connect(self, host, port, timeout, *others)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", fall_silent)
    monkeypatch.setattr(courier_module._Network, "_find_addresses", lambda *_: ["127.0.0.2", "127.0.0.1"])
    add_webhook(database, clinic_id, receiver.url)
    end_case(database, clinic_id)
    deliver(database)
    ((_, first_s), (_, second_s)) = asked
    assert first_s <= courier_module._TIMEOUT_S / 2 < second_s
    assert known(database).delivered == 1


def test_a_signature_holds_only_for_its_own_message(database, clinic_id, receiver):
    secret = add_webhook(database, clinic_id, receiver.url)
    end_case(database, clinic_id)
    deliver(database)
    ((headers, body),) = receiver.messages
    for altered in ((headers, body + b" "), (headers | {"webhook-id": "msg_7"}, body)):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(altered[1], altered[0])


def test_what_was_settled_a_month_ago_is_forgotten_and_what_waits_is_not(database, clinic_id, receiver):
    add_webhook(database, clinic_id, receiver.url)
    for _ in range(2):
        end_case(database, clinic_id)
    with database.writing() as session:
        now = read_clock(session)
        (first,) = webhooks.claim_deliveries(session, 1, now)
        webhooks.record_delivered(session, first.id, now)
        webhooks.forget_old_deliveries(session, now + timedelta(days=29))
    assert (known(database).delivered, known(database).pending) == (1, 1)
    with database.writing() as session:
        webhooks.forget_old_deliveries(session, now + timedelta(days=31))
    assert (known(database).delivered, known(database).pending) == (0, 1)
