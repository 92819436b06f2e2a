"""What keeps a flood, a growing backlog and a guesser of keys at the door, and whom each of them does not touch."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import time_machine
from flask import Flask
from sqlalchemy import select
from werkzeug.test import TestResponse

from api import limits
from shared.database import read_clock
from shared.store import access, queue
from shared.tables import ApiKeyRow
from tests.api.calls import Api, read_problem
from tests.factories import add_case

KEYED = {"Idempotency-Key": "upload-1"}

without_regard_to_sql = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def through(app: Flask, who: Api) -> Api:
    """Return the same caller at another app."""
    return Api(app.test_client(), who.key)


def claim_one(database) -> None:
    with database.writing() as session:
        queue.claim_cases(session, 1, 60, read_clock(session))


def test_a_clinic_whose_quota_is_full_is_asked_to_come_back_and_leaves_no_trace(
    open_app, clinic, other_clinic, rows, stored_keys, rung
):
    app = open_app(clinic_waiting_limit=2)
    assert [through(app, clinic).submit().status_code for _ in range(2)] == [202, 202]
    before = rows(), stored_keys(clinic), rung()
    answer = through(app, clinic).submit()
    problem = read_problem(answer, 429)
    assert (problem["code"], "At most 2 of your cases" in problem["detail"]) == ("quota_exceeded", True)
    assert int(answer.headers["Retry-After"]) > 0
    assert (rows(), stored_keys(clinic), rung()) == before
    assert through(app, other_clinic).submit().status_code == 202


def test_what_was_accepted_is_answered_again_when_nothing_new_would_be_taken(open_app, clinic, monkeypatch):
    monkeypatch.setattr(limits, "_BACKLOG_COUNTED_EVERY_S", -1)
    first = through(open_app(), clinic).submit(headers=KEYED)
    for full in ({"clinic_waiting_limit": 1}, {"backlog_limit": 1}):
        app = open_app(**full)
        assert through(app, clinic).submit().status_code in (429, 503)
        again = through(app, clinic).submit(headers=KEYED)
        assert (again.status_code, again.json) == (202, first.json)


@pytest.mark.parametrize(("default", "own"), [(1, 3), (100, 3)])
def test_a_clinics_own_limit_counts_in_place_of_the_default(open_app, database, clinic, other_clinic, default, own):
    with database.writing() as session:
        access.set_limits(session, clinic.id, waiting_limit=own)
    app = open_app(clinic_waiting_limit=default)
    statuses = [through(app, clinic).submit().status_code for _ in range(own + 1)]
    assert statuses == [202] * own + [429]
    assert through(app, other_clinic).submit().status_code == 202


def test_only_waiting_cases_count(open_app, database, clinic):
    who = through(open_app(clinic_waiting_limit=1), clinic)
    running = who.submit()
    claim_one(database)
    waiting = who.submit()
    assert (running.status_code, waiting.status_code, who.submit().status_code) == (202, 202, 429)
    who.call("POST", f"{waiting.headers['Location']}/cancel")
    assert who.submit().status_code == 202


def test_when_too_many_wait_altogether_nobodys_case_is_taken_until_some_are_done(
    open_app, database, clinic, other_clinic, rows, stored_keys, monkeypatch
):
    monkeypatch.setattr(limits, "_BACKLOG_COUNTED_EVERY_S", -1)
    app = open_app(backlog_limit=2)
    for _ in range(2):
        add_case(database, clinic.id)
    before = rows()
    answer = through(app, other_clinic).submit()
    assert read_problem(answer, 503)["code"] == "backlog_full"
    assert int(answer.headers["Retry-After"]) > 0
    assert (rows(), stored_keys(other_clinic)) == (before, [])
    claim_one(database)
    assert through(app, other_clinic).submit().status_code == 202


def test_the_backlog_is_counted_once_a_second(open_app, database, clinic, monkeypatch):
    clock = set_clock(monkeypatch)
    who = through(open_app(backlog_limit=1), clinic)
    assert who.submit().status_code == 202  # and nothing waited when the backlog was counted
    clock.now_s += 0.9
    assert who.submit().status_code == 202
    clock.now_s += 0.2
    assert who.submit().status_code == 503


def set_clock(monkeypatch) -> SimpleNamespace:
    """Let the limits read a clock that the test moves."""
    clock = SimpleNamespace(now_s=1000.0)
    monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


@pytest.fixture
def last_used(database) -> Callable[[Api], datetime | None]:
    def look(who: Api) -> datetime | None:
        with database.reading() as session:
            return session.scalar(select(ApiKeyRow.last_used_at).where(ApiKeyRow.prefix == who.key.split("_")[1]))

    return look


def test_when_a_key_was_used_is_noted_at_most_once_a_minute(clinic, other_clinic, last_used, database, monkeypatch):
    clock = set_clock(monkeypatch)
    assert last_used(clinic) is None
    clinic.get("/v1/cases")
    noted = last_used(clinic)
    with database.reading() as session:
        assert abs(read_clock(session) - noted) < timedelta(minutes=1)
    clock.now_s += 59
    clinic.get("/v1/cases")
    assert last_used(clinic) == noted
    clock.now_s += 1
    clinic.get("/v1/cases")
    assert last_used(clinic) > noted
    assert last_used(other_clinic) is None


def test_a_key_that_does_not_open_is_not_noted_as_used(revoked, last_used):
    assert revoked.get("/v1/cases").status_code == 401
    assert last_used(revoked) is None


def ask(app: Flask, key: str, address: str = "192.0.2.1", forwarded: str | None = None) -> TestResponse:
    """Ask for the list of cases, from an address."""
    headers = {"Authorization": f"Bearer {key}"} | ({"X-Forwarded-For": forwarded} if forwarded else {})
    return app.test_client().get("/v1/cases", headers=headers, environ_overrides={"REMOTE_ADDR": address})


def statuses(times: int, *arguments) -> list[int]:
    return [ask(*arguments).status_code for _ in range(times)]


@without_regard_to_sql
def test_whoever_tries_key_after_key_has_to_pause_and_nobody_with_a_valid_key_or_at_another_address(open_app, clinic):
    app = open_app(wrong_keys_per_minute=3)
    assert statuses(3, app, "dq_wrong") == [401] * 3
    answer = ask(app, "dq_wrong")
    assert read_problem(answer, 429)["code"] == "too_many_wrong_keys"
    assert int(answer.headers["Retry-After"]) > 0
    assert ask(app, clinic.key).status_code == 200  # another device behind the same address has an old key
    assert app.test_client().post("/app/sign-in", data={"key": clinic.key}).status_code == 303
    assert ask(app, "dq_wrong", "192.0.2.2").status_code == 401


@without_regard_to_sql
def test_a_minute_after_the_first_wrong_key_the_address_may_try_again(open_app):
    app = open_app(wrong_keys_per_minute=3)
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        assert statuses(4, app, "dq_wrong") == [401, 401, 401, 429]
        clock.shift(59)
        assert ask(app, "dq_wrong").status_code == 429
        clock.shift(2)
        assert ask(app, "dq_wrong").status_code == 401


@without_regard_to_sql
def test_requests_that_are_refused_do_not_prolong_the_pause(open_app):
    app = open_app(wrong_keys_per_minute=2)
    with time_machine.travel(datetime.now(UTC), tick=False) as clock:
        assert statuses(2, app, "dq_wrong") == [401, 401]
        clock.shift(59)
        assert statuses(5, app, "dq_wrong") == [429] * 5
        clock.shift(2)
        assert ask(app, "dq_wrong").status_code == 401


@without_regard_to_sql
def test_keys_that_have_ended_count_as_wrong_ones_and_everything_else_does_not(open_app, clinic, revoked, reviewer):
    app = open_app(wrong_keys_per_minute=2)
    assert statuses(5, app, clinic.key) == [200] * 5
    assert [app.test_client().get("/v1/cases").status_code for _ in range(5)] == [401] * 5  # no key at all
    assert [through(app, reviewer).submit().status_code for _ in range(5)] == [403] * 5
    assert statuses(3, app, revoked.key) == [401, 401, 429]


@without_regard_to_sql
def test_without_a_proxy_nobody_gets_another_address_by_saying_so(open_app):
    app = open_app(wrong_keys_per_minute=2)
    forwarded = [ask(app, "dq_wrong", forwarded=f"198.51.100.{last}").status_code for last in range(3)]
    assert forwarded == [401, 401, 429]


@without_regard_to_sql
def test_behind_a_proxy_the_address_is_the_one_that_the_proxy_saw(open_app):
    app = open_app(wrong_keys_per_minute=2, trusted_proxies=1)
    # The client may send the header itself; the proxy adds what it saw at the end.
    seen = [ask(app, "dq_wrong", forwarded=f"198.51.100.{last}, 203.0.113.1").status_code for last in range(3)]
    assert seen == [401, 401, 429]
    assert ask(app, "dq_wrong", forwarded="203.0.113.2").status_code == 401
