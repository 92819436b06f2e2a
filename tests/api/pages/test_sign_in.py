"""Who gets in, what a browser is given to keep, and what ends a session."""

import html
import re
from datetime import timedelta
from http.cookies import SimpleCookie
from uuid import UUID

import pytest

from shared.database import read_clock
from shared.service_tables import SessionRow
from shared.store import access
from tests.api.pages.conftest import Visitor

LASTS, LASTS_UNUSED = timedelta(hours=12), timedelta(minutes=30)
"""What SECURITY.md promises."""
A_MINUTE = timedelta(minutes=1)
"""What a busy machine may need between two steps of a test is less."""

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def age(database):
    """Let time pass for every session."""

    def by(since_begun: timedelta, since_used: timedelta) -> None:
        with database.writing() as session:
            for row in session.query(SessionRow):
                row.created_at, row.expires_at = row.created_at - since_begun, row.expires_at - since_begun
                row.used_at -= since_used

    return by


def is_signed_in(visitor: Visitor) -> bool:
    return visitor.get("/model").status_code != 303


def test_a_key_opens_the_pages_and_every_role_has_a_start(sign_in, clinic, reviewer):
    for api, start in ((clinic, "/app/cases"), (reviewer, "/app/worklist")):
        visitor = sign_in(api)
        assert visitor.get("").location == visitor.get("/").location == start
        assert visitor.client.get(start).status_code == 200


def test_whoever_is_not_signed_in_is_led_to_the_page_that_they_asked_for_afterwards(client, clinic):
    led = client.get("/app/cases?state=failed")
    assert led.location == "/app/sign-in?then=/app/cases?state%3Dfailed"
    form = client.get(led.location).text
    then = re.search('name="then" value="(.*?)"', form)[1]
    assert client.post("/app/sign-in", data={"key": clinic.key, "then": then}).location == "/app/cases?state=failed"


@pytest.mark.parametrize("then", ["https://elsewhere.example/", "//elsewhere.example", "/app\\elsewhere", "/v1/cases"])
def test_a_sign_in_leads_nowhere_else(client, clinic, then):
    assert client.post("/app/sign-in", data={"key": clinic.key, "then": then}).location == "/app"


def test_a_wrong_key_is_told_in_words_and_gives_no_cookie(client, clinic, revoked):
    for key, words in ((clinic.key[:-1], "not valid"), (revoked.key, "revoked"), ("", "not valid")):
        answer = client.post("/app/sign-in", data={"key": key})
        assert answer.status_code == 401
        assert words in answer.text
        assert 'name="key"' in answer.text
        assert "Set-Cookie" not in answer.headers


def test_of_somebody_whom_nobody_knows_no_more_is_read_than_a_key(client, clinic):
    assert client.post("/app/sign-in", data={"key": clinic.key + " " * 10_000}).status_code == 413


def test_a_guesser_of_keys_has_to_pause_here_too(open_app):
    client = open_app(wrong_keys_per_minute=2).test_client()
    statuses = [client.post("/app/sign-in", data={"key": "dq_wrong"}).status_code for _ in range(3)]
    assert statuses == [401, 401, 429]


@pytest.mark.parametrize(("scheme", "secure"), [("http", ""), ("https", True)])
def test_the_cookie_is_for_the_pages_alone_and_out_of_scripts_reach(client, clinic, scheme, secure):
    answer = client.post("/app/sign-in", data={"key": clinic.key}, base_url=f"{scheme}://dermqueue.example")
    (cookie,) = SimpleCookie(answer.headers["Set-Cookie"]).values()
    assert (cookie["path"], cookie["samesite"]) == ("/app", "Strict")
    assert (cookie["httponly"], cookie["secure"]) == (True, secure)
    assert clinic.key.split("_", 2)[2] not in str(answer.headers)


def test_the_table_of_sessions_lets_nobody_in(clinic_visitor, rows):
    (cookie,) = [clinic_visitor.client.get_cookie("dermqueue_session", path="/app")]
    assert cookie.value not in str(rows("sessions"))


@pytest.mark.parametrize("gap", [A_MINUTE, -A_MINUTE])
def test_a_session_ends_when_it_was_not_used_for_half_an_hour(clinic_visitor, age, gap):
    age(LASTS_UNUSED, LASTS_UNUSED + gap)
    assert is_signed_in(clinic_visitor) == (gap < timedelta())


def test_a_session_that_is_used_goes_on_for_twelve_hours_and_no_longer(clinic_visitor, age):
    for _ in range(3):
        age(LASTS_UNUSED / 2, LASTS_UNUSED - A_MINUTE)
        assert is_signed_in(clinic_visitor)
    age(LASTS - 3 * LASTS_UNUSED / 2 - A_MINUTE, timedelta())
    assert is_signed_in(clinic_visitor)
    age(2 * A_MINUTE, timedelta())
    assert not is_signed_in(clinic_visitor)


def test_a_page_that_renews_itself_keeps_nobody_signed_in(clinic_visitor, age):
    age(timedelta(), LASTS_UNUSED / 2)
    assert clinic_visitor.get("/cases", headers={"Dermqueue-Live": "1"}).status_code == 200
    age(timedelta(), LASTS_UNUSED / 2)
    assert not is_signed_in(clinic_visitor)


def test_a_thumbnail_that_a_refresh_brings_keeps_nobody_signed_in(clinic_visitor, clinic, succeed, age):
    case_id = clinic.submit().json["id"]
    succeed(case_id)
    age(timedelta(), LASTS_UNUSED / 2)
    assert clinic_visitor.get(f"/cases/{case_id}/thumbnail").status_code == 200
    age(timedelta(), LASTS_UNUSED / 2)
    assert not is_signed_in(clinic_visitor)


def test_whoever_sends_a_form_after_the_session_has_ended_is_told_that_nothing_was_sent(clinic_visitor, age, rows):
    age(timedelta(), LASTS_UNUSED)
    referrer = {"Referer": "http://localhost/app/submit"}
    led = clinic_visitor.post("/cases", headers=referrer)
    assert (led.status_code, led.location) == (303, "/app/sign-in?then=/app/submit&unsent=1")
    page = clinic_visitor.client.get(led.location).text
    assert "Nothing was sent or saved" in page
    assert 'name="then" value="/app/submit"' in page
    assert "Nothing was sent" not in clinic_visitor.client.get("/app/sign-in").text
    assert rows("cases") == []
    assert clinic_visitor.post("/sign-out", headers=referrer).location == "/app/sign-in"


def test_a_review_sent_after_the_session_has_ended_leads_back_to_its_case_in_the_same_list(
    reviewer_visitor, reviewer, clinic, succeed, age
):
    case_id = clinic.submit().json["id"]
    succeed(case_id)
    age(timedelta(), LASTS_UNUSED)
    address = f"/app/worklist/{case_id}/review?decision=refer"
    led = reviewer_visitor.post(f"/worklist/{case_id}/review", headers={"Referer": f"http://localhost{address}"})
    then = html.unescape(re.search('name="then" value="(.*?)"', reviewer_visitor.client.get(led.location).text)[1])
    assert then == address
    reviewer_visitor.client.post("/app/sign-in", data={"key": reviewer.key, "then": then})
    assert reviewer_visitor.client.get(then).location == f"/app/worklist/{case_id}?decision=refer"


@pytest.mark.parametrize(
    ("role", "address", "form"),
    [
        ("clinic", "/submissions", "/submit"),
        ("admin", "/access/clinics", "/access"),
        ("admin", f"/access/clinics/{UUID(int=7)}", "/access"),
        ("admin", "/access/keys", "/access"),
    ],
)
def test_a_form_sent_after_the_session_has_ended_from_the_page_that_answered_it_leads_back_to_the_form(
    request, sign_in, age, role, address, form
):
    """A page that answered a form is shown at the form's address."""
    visitor = sign_in(request.getfixturevalue(role))
    age(timedelta(), LASTS_UNUSED)
    led = visitor.post(address, headers={"Referer": f"http://localhost/app{address}"})
    then = html.unescape(re.search('name="then" value="(.*?)"', visitor.client.get(led.location).text)[1])
    entered = visitor.client.post("/app/sign-in", data={"key": request.getfixturevalue(role).key, "then": then})
    again = visitor.client.get(entered.location)
    assert (again.status_code, again.location) == (303, f"/app{form}")
    assert visitor.client.get(again.location).status_code == 200


def test_a_session_ends_with_its_key(sign_in, clinic, reviewer, database):
    revoked, expired = sign_in(clinic), sign_in(reviewer)
    with database.writing() as session:
        now = read_clock(session)
        access.revoke_key(session, clinic.key, now)
        access.rotate_key(session, reviewer.key, now, timedelta())
    assert not is_signed_in(revoked)
    assert not is_signed_in(expired)


def test_signing_out_ends_this_session_and_not_another_one_of_the_same_key(sign_in, clinic, rows):
    here, there = sign_in(clinic), sign_in(clinic)
    assert here.post("/sign-out").status_code == 303
    assert not is_signed_in(here)
    assert is_signed_in(there)
    assert len(rows("sessions")) == 1


def test_signing_in_again_in_another_tab_leaves_the_forms_of_the_first_as_they_are(sign_in, clinic, other_clinic, rows):
    visitor = sign_in(clinic)
    again = visitor.client.post("/app/sign-in", data={"key": clinic.key, "then": "/app/submit"})
    assert (again.status_code, again.location, len(rows("sessions"))) == (303, "/app/submit", 1)
    case_id = clinic.submit().json["id"]
    assert visitor.post(f"/cases/{case_id}/cancel").status_code == 303
    visitor.client.post("/app/sign-in", data={"key": other_clinic.key})
    assert visitor.get(f"/cases/{case_id}").status_code == 404


def test_a_session_whose_key_is_entered_again_lasts_as_long_as_a_new_one(sign_in, clinic, age):
    visitor, nearly = sign_in(clinic), timedelta(minutes=1)
    age(LASTS - nearly, LASTS_UNUSED - nearly)
    visitor.client.post("/app/sign-in", data={"key": clinic.key})
    age(LASTS - nearly, LASTS_UNUSED - nearly)
    assert is_signed_in(visitor)


def test_who_signs_in_after_the_session_has_ended_gets_another(sign_in, clinic, age):
    visitor = sign_in(clinic)
    age(timedelta(), LASTS_UNUSED)
    visitor.client.post("/app/sign-in", data={"key": clinic.key})
    assert is_signed_in(visitor)


def test_sessions_that_ended_are_swept_out_by_the_next_sign_in(sign_in, clinic, age, rows):
    sign_in(clinic)
    age(timedelta(), LASTS_UNUSED)
    sign_in(clinic)
    assert len(rows("sessions")) == 1


def test_no_form_is_taken_without_its_sessions_token(app, sign_in, clinic, reviewer, admin, everything_but_sessions):
    """Every posting route, so that a new one cannot be forgotten."""
    visitors = {"clinic": sign_in(clinic), "reviewer": sign_in(reviewer), "admin": sign_in(admin)}
    case_id = clinic.submit().json["id"]
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith("/app/") and "POST" in rule.methods]
    posting = [rule for rule in rules if rule.endpoint not in ("pages.sign_in.sign_in", "pages._nothing_here")]
    assert len(posting) >= 12
    before = everything_but_sessions()
    for rule in posting:
        for role in visitors.keys() & set(app.view_functions[rule.endpoint].roles):
            mine, other = visitors[role], visitors["admin" if role == "clinic" else "clinic"]
            address = re.sub(r"<\w+>", case_id, rule.rule.removeprefix("/app"))
            for token in ("", other.token):
                answer = Visitor(mine.client, token).post(address, {"verdict": "agree", "version": "0"})
                assert answer.status_code == 403, rule
                assert "open for too long" in answer.text
    assert everything_but_sessions() == before


@pytest.fixture
def everything_but_sessions(rows):
    return lambda: rows("cases", "submissions", "reviews", "audit_events", "sessions", "clinics", "api_keys")


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://elsewhere.example"},
        {"Origin": "null"},
        {"Origin": "http://["},
    ],
)
def test_another_sites_page_can_send_no_form_and_sign_nobody_in(clinic_visitor, client, clinic, headers):
    refused = client.post("/app/sign-in", data={"key": clinic.key}, headers=headers)
    assert (refused.status_code, "Set-Cookie" in refused.headers) == (403, False)
    assert clinic_visitor.post("/sign-out", headers=headers).status_code == 403
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}
    assert clinic_visitor.post("/sign-out", headers=own).status_code == 303
