"""Where the courier's messages may go, and how long its claim on a message lasts."""

import socket
from datetime import timedelta
from types import SimpleNamespace
from uuid import UUID

import httpcore
import pytest

from shared.database import read_clock
from shared.store import webhooks
from tests.factories import add_clinic
from tests.worker.messages import add_webhook, deliver, end_case, known
from worker import webhooks as courier_module

PUBLIC, ALSO_PUBLIC, PRIVATE = "1.1.1.1", "8.8.8.8", "10.0.0.1"


@pytest.fixture
def clinic_id(database) -> UUID:
    return add_clinic(database)


@pytest.mark.parametrize(
    ("url", "addresses", "asked", "error"),
    [
        ("https://clinic.example/", [PUBLIC, ALSO_PUBLIC], [PUBLIC, ALSO_PUBLIC], "ConnectError"),
        ("https://clinic.example/", [PUBLIC, PRIVATE], [], "address_refused"),
        ("https://clinic.example/", [PRIVATE, PUBLIC], [], "address_refused"),
        ("http://localhost/", [PUBLIC], [], "address_refused"),
    ],
)
def test_nothing_is_contacted_unless_every_address_of_a_name_is_public_and_the_url_is_still_allowed(
    database, clinic_id, monkeypatch, url, addresses, asked, error
):
    tried = []

    def refuse(self, host, *_):
        tried.append(host)
        raise httpcore.ConnectError

    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses]
    resolver = SimpleNamespace(getaddrinfo=lambda *_, **__: found, SOCK_STREAM=socket.SOCK_STREAM)
    monkeypatch.setattr(courier_module, "socket", resolver)
    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", refuse)
    add_webhook(database, clinic_id, url)
    end_case(database, clinic_id)
    deliver(database, local_allowed=False)
    assert (tried, known(database).last_error) == (asked, error)


@pytest.mark.parametrize(("after_s", "claimed"), [(2 * courier_module._TIMEOUT_S, 0), (121, 1)])
def test_a_message_cannot_be_claimed_again_until_its_sender_must_have_given_up(database, clinic_id, after_s, claimed):
    add_webhook(database, clinic_id, "https://clinic.example/hook")
    end_case(database, clinic_id)
    with database.writing() as session:
        now = read_clock(session)
        assert len(webhooks.claim_deliveries(session, 10, now)) == 1
        assert len(webhooks.claim_deliveries(session, 10, now + timedelta(seconds=after_s))) == claimed
