"""What is noted of every request."""

import logging
from uuid import UUID

import pytest

from shared.database import read_clock
from shared.log_ids import request_of
from shared.store import queue


@pytest.mark.parametrize("sent", [str(UUID(int=0xDE12)), UUID(int=0xDE12).hex.upper()])
def test_a_proxys_id_is_taken_and_leads_from_the_request_to_the_worker(clinic, database, caplog, sent):
    caplog.set_level(logging.INFO)
    answer = clinic.submit(headers={"X-Request-Id": sent})
    assert answer.headers["X-Request-Id"] == UUID(sent).hex
    with database.writing() as session:
        (lease,) = queue.claim_cases(session, 1, 60, read_clock(session))
    assert request_of(lease.traceparent) == UUID(sent).hex
    assert f"case_accepted case_id={answer.json['id']}" in caplog.text


@pytest.mark.parametrize("sent", ["", "Jane Doe", "19840423", "7d1e7a52", "z" * 32, "a" * 33, "{" + "a" * 32 + "}"])
def test_an_id_that_could_hold_words_is_replaced(client, sent):
    given = client.get("/healthz", headers={"X-Request-Id": sent}).headers["X-Request-Id"]
    assert len(given) == 32
    assert given != sent
    assert given not in sent
    assert client.get("/healthz").headers["X-Request-Id"] != given


def test_changes_are_logged_by_their_route_and_readers_are_not(clinic, caplog):
    caplog.set_level(logging.INFO)
    case_id = clinic.submit().json["id"]
    clinic.call("POST", f"/v1/cases/{case_id}/cancel")
    clinic.get(f"/v1/cases/{case_id}")
    lines = [line for line in caplog.messages if line.startswith("request_answered")]
    assert [line.rpartition(" ")[0] for line in lines] == [
        "request_answered method=POST route=/v1/cases status=202",
        "request_answered method=POST route=/v1/cases/<case_id>/cancel status=202",
    ]


def test_a_reader_whom_we_failed_is_logged(open_app, dead_database_url, caplog):
    caplog.set_level(logging.INFO)
    assert open_app(database_url=dead_database_url).test_client().get("/readyz").status_code == 503
    assert any(line.startswith("request_answered method=GET route=/readyz status=503") for line in caplog.messages)
