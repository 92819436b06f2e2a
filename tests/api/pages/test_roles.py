"""Every page, for every role, with one's own, another clinic's and nobody's case: who may see and do what."""

import re
from uuid import uuid4

import pytest
from markupsafe import escape
from werkzeug.test import TestResponse

from shared.domain import Role
from tests.api.calls import JPEG, Clinic, File
from tests.api.pages.conftest import Visitor
from tests.factories import add_clinic, add_key

EVERYBODY, CLINIC, REVIEWER, ADMIN = "clinic reviewer admin", "clinic", "reviewer", "admin"
BOTH = f"{CLINIC} {REVIEWER}"
PAGES = {
    "GET ": EVERYBODY,
    "GET /": EVERYBODY,
    "GET /model": EVERYBODY,
    "POST /sign-out": EVERYBODY,
    "GET /cases": BOTH,
    "POST /cases": CLINIC,
    "GET /submit": CLINIC,
    "GET /submissions": CLINIC,
    "POST /submissions": CLINIC,
    "GET /submissions/<submission_id>": CLINIC,
    "GET /cases/<case_id>": BOTH,
    "GET /cases/<case_id>/photograph": BOTH,
    "GET /cases/<case_id>/heatmap": BOTH,
    "GET /cases/<case_id>/thumbnail": BOTH,
    "GET /cases/<case_id>/report.pdf": BOTH,
    "POST /cases/<case_id>/cancel": CLINIC,
    "GET /cases/<case_id>/erase": CLINIC,
    "POST /cases/<case_id>/erase": CLINIC,
    "GET /portable/": BOTH,
    "GET /portable/<path:part>": BOTH,
    "GET /worklist": REVIEWER,
    "GET /worklist/<case_id>": REVIEWER,
    "GET /worklist/<case_id>/next": REVIEWER,
    "GET /worklist/<case_id>/review": REVIEWER,
    "POST /worklist/<case_id>/review": REVIEWER,
    "GET /queue": ADMIN,
    "GET /failed": ADMIN,
    "POST /failed/<case_id>/requeue": ADMIN,
    "GET /access": ADMIN,
    "GET /access/clinics": ADMIN,
    "POST /access/clinics": ADMIN,
    "GET /access/clinics/<clinic_id>": ADMIN,
    "POST /access/clinics/<clinic_id>": ADMIN,
    "GET /access/keys": ADMIN,
    "POST /access/keys": ADMIN,
    "GET /access/keys/<key_id>/rotate": ADMIN,
    "POST /access/keys/<key_id>/rotate": ADMIN,
    "GET /access/keys/<key_id>/revoke": ADMIN,
    "POST /access/keys/<key_id>/revoke": ADMIN,
    "GET /audit": ADMIN,
}
"""Who may use which page. A new one needs a line here."""

OPEN_TO_ALL = {"GET /sign-in", "POST /sign-in", "GET /static/<path:filename>", "GET /<path:_>", "POST /<path:_>"}
OF_CASE = [page for page, roles in PAGES.items() if "<case_id>" in page and CLINIC in roles]

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def ask(visitor: Visitor, page: str, found_id: str) -> TestResponse:
    method, _, address = page.partition(" ")
    address = re.sub(r"<\w+>", found_id, address)
    return visitor.get(address) if method == "GET" else visitor.post(address)


def test_every_page_is_in_the_table(app):
    found = {
        f"{method} {rule.rule.removeprefix('/app')}"
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/app")
        for method in rule.methods & {"GET", "POST", "PUT", "PATCH", "DELETE"}
    }
    assert found == PAGES.keys() | OPEN_TO_ALL


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_for_its_roles_alone(sign_in, clinic, reviewer, admin, client, succeed, page):
    case_id = clinic.submit().json["id"]
    succeed(case_id)
    for api, role in ((clinic, Role.CLINIC), (reviewer, Role.REVIEWER), (admin, Role.ADMIN)):
        answer = ask(sign_in(api), page, case_id)
        is_refused = answer.status_code == 403 and "This page is for another role" in answer.text
        assert is_refused == (role not in PAGES[page].split()), role
        assert answer.status_code < 500
    assert "/app/sign-in" in ask(Visitor(client, ""), page, case_id).location


@pytest.mark.parametrize("page", OF_CASE)
def test_another_clinics_case_looks_like_none(sign_in, clinic, other_clinic, succeed, page):
    case_id = clinic.submit().json["id"]
    succeed(case_id)
    hers, nobodys = (ask(sign_in(other_clinic), page, found) for found in (case_id, str(uuid4())))
    assert hers.status_code == nobodys.status_code == 404
    assert "There is no such case" in hers.text
    assert clinic.get(f"/v1/cases/{case_id}").json["state"] == "succeeded"
    assert ask(sign_in(clinic), page, case_id).status_code in (200, 303, 409)


def test_another_clinics_submission_looks_like_none(sign_in, clinic, other_clinic):
    mine, stranger = sign_in(clinic), sign_in(other_clinic)
    sent = clinic.submit_form({"image": File(JPEG)}, address="/v1/submissions").json["id"]
    page = "GET /submissions/<submission_id>"
    assert ask(mine, page, sent).status_code == 200
    hers, nobodys = (ask(stranger, page, found) for found in (sent, str(uuid4())))
    assert hers.status_code == nobodys.status_code == 404
    assert hers.data == nobodys.data


def marked(word: str) -> str:
    return f"<b>{word}</b>"


def test_what_people_wrote_is_shown_as_they_wrote_it_and_is_no_part_of_the_page(
    sign_in, client, database, reviewer, admin, succeed
):
    clinic_id = add_clinic(database, marked("clinic"))
    clinic = Clinic(client, add_key(database, Role.CLINIC, clinic_id), clinic_id)
    sent = clinic.submit(reference=marked("reference"), site=marked("site")).json
    succeed(sent["id"])
    for version, note in enumerate((marked("earlier"), marked("note"))):
        said = {"verdict": "agree", "note": note}
        reviewer.call("PUT", f"{sent['links']['self']}/review", {"If-Match": f'"{version}"'}, json=said)
    files = [File(JPEG, marked("taken")), File(b"text", marked("refused"))]
    together = clinic.submit_form({"image": files}, address="/v1/submissions").json["id"]
    sender, reader, keeper = map(sign_in, (clinic, reviewer, admin))
    for visitor, page, words in (
        (sender, "/cases", "reference"),
        (sender, f"/cases?reference={marked('asked')}", "asked"),
        (sender, f"/cases/{sent['id']}", "reference site"),
        (sender, f"/cases/{sent['id']}/erase", "reference"),
        (sender, f"/submissions/{together}", "taken refused"),
        (reader, "/worklist?reviewed=true", "reference clinic"),
        (reader, f"/worklist/{sent['id']}", "reference site earlier note"),
        (keeper, "/access", "clinic"),
        (keeper, "/queue", "clinic"),
        (keeper, "/audit", "clinic"),
    ):
        shown = visitor.get(page)
        assert (shown.status_code, "<b>" in shown.text) == (200, False), page
        assert [word for word in words.split() if str(escape(marked(word))) not in shown.text] == [], page
