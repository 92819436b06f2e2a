"""Webhooks as a clinic and an admin use them, and a message from the final state to the clinic's server."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from standardwebhooks import Webhook

from shared.store import webhooks
from tests.api.calls import Api, read_problem
from tests.servers.receiver import Receiver, running_receiver
from tests.worker.messages import await_sent
from worker.webhooks import Courier

URL = "https://clinic.example/hook"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as receiver:
        yield receiver


def add(clinic: Api, url: str = URL):
    return clinic.call("POST", "/v1/webhooks", json={"url": url})


def listed(clinic: Api) -> list[dict]:
    return clinic.get("/v1/webhooks").json["webhooks"]


def test_a_webhook_is_added_listed_and_removed_and_its_secret_is_seen_once(clinic, admin, rows):
    added = add(clinic)
    assert (added.status_code, added.json["url"]) == (201, URL)
    assert added.json["secret"].startswith("whsec_")
    (found,) = listed(clinic)
    assert (found["id"], found["clinic_id"], found["disabled_at"]) == (added.json["id"], str(clinic.id), None)
    assert admin.get("/v1/admin/webhooks").json["webhooks"] == [found]
    assert added.json["secret"] not in clinic.get("/v1/webhooks").text + admin.get("/v1/admin/webhooks").text
    assert clinic.call("DELETE", f"/v1/webhooks/{found['id']}").status_code == 204
    assert listed(clinic) == rows("webhooks") == []
    assert [(row.action, row.role) for row in rows("audit_events")] == [
        ("webhook.added", "clinic"),
        ("webhook.removed", "clinic"),
    ]


def test_each_webhook_has_a_secret_of_its_own(clinic):
    assert len({add(clinic).json["secret"] for _ in range(2)}) == 2


def test_a_sixth_webhook_is_refused_until_one_is_removed(clinic, other_clinic, rows):
    ids = [add(clinic).json["id"] for _ in range(webhooks.MOST_PER_CLINIC)]
    before = rows()
    assert read_problem(add(clinic), 409)["code"] == "webhooks_too_many"
    assert rows() == before
    assert add(other_clinic).status_code == 201
    clinic.call("DELETE", f"/v1/webhooks/{ids[0]}")
    assert add(clinic).status_code == 201


@pytest.mark.parametrize(
    "url",
    [
        "http://clinic.example/hook",
        "http://127.0.0.1/hook",
        "ftp://clinic.example",
        "https://name:secret@clinic.example",
        "https://clinic.example/#x",
        "https://clinic.example/\x7f",
        "hook",
    ],
)
def test_an_address_that_is_no_plain_https_one_is_refused(clinic, rows, url):
    assert read_problem(add(clinic, url), 400)["code"] == "webhook_url_refused"
    assert rows("webhooks", "audit_events") == []


@pytest.mark.parametrize("sent", [{}, {"url": 7}, {"url": "https://" + "x" * 2000}, {"url": URL, "secret": "mine"}])
def test_a_webhook_that_makes_no_sense_is_refused(clinic, sent):
    read_problem(clinic.call("POST", "/v1/webhooks", json=sent), 400)


@pytest.mark.parametrize(("method", "action"), [("DELETE", ""), ("POST", "/enable")])
def test_another_clinics_webhook_is_as_unknown_as_one_that_is_not_there(clinic, other_clinic, rows, method, action):
    theirs = add(other_clinic).json["id"]
    before = rows()
    problems = [
        read_problem(clinic.call(method, f"/v1/webhooks/{asked}{action}"), 404) for asked in (theirs, uuid4(), "7")
    ]
    assert problems[0] == problems[1] == problems[2]
    assert problems[0]["code"] == "webhook_not_found"
    assert (listed(clinic), rows()) == ([], before)


def test_a_cancelled_case_is_told_in_the_transaction_that_ends_it(clinic, rows, monkeypatch):
    webhook_id, address = add(clinic).json["id"], clinic.submit().headers["Location"]

    def break_down(*_):
        raise RuntimeError("in the middle of the transaction")

    with monkeypatch.context() as broken:
        broken.setattr(webhooks, "announce", break_down)
        assert clinic.call("POST", f"{address}/cancel").status_code == 500
    assert (clinic.get(address).json["state"], rows("webhook_deliveries")) == ("queued", [])
    clinic.call("POST", f"{address}/cancel")
    assert [(str(row.webhook_id), row.state) for row in rows("webhook_deliveries")] == [(webhook_id, "cancelled")]


def test_a_server_that_never_takes_a_message_is_given_up_until_its_clinic_enables_it_again(
    open_app, clinic, database, receiver, rows, monkeypatch
):
    monkeypatch.setattr(webhooks, "RETRY_AFTER_S", (0,) * 7)
    mine = Api(open_app(local_webhooks=True).test_client(), clinic.key)
    secret = add(mine, receiver.url).json["secret"]
    address = mine.submit(reference="Mrs Miller").headers["Location"]
    mine.call("POST", f"{address}/cancel")
    courier = Courier(database, local_allowed=True)
    receiver.status = 503
    courier.deliver_due()
    await_sent(courier)
    assert len(receiver.messages) == 8
    (found,) = listed(mine)
    assert (found["pending"], found["given_up"], found["last_error"]) == (0, 1, "status_503")
    assert found["disabled_at"]
    assert mine.call("POST", f"/v1/webhooks/{found['id']}/enable").status_code == 204
    assert listed(mine)[0]["disabled_at"] is None
    receiver.status = 204
    mine.call("POST", f"{mine.submit().headers['Location']}/cancel")
    courier.deliver_due()
    await_sent(courier)
    headers, body = receiver.messages[-1]
    message = Webhook(secret).verify(body, headers)
    assert message["data"]["state"] == "cancelled"
    assert "Miller" not in str(receiver.messages)
    assert listed(mine)[0]["delivered"] == 1
