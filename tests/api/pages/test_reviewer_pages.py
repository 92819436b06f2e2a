"""A reviewer's pages: which cases the list shows, and which one follows."""

import html
import re
from datetime import date, timedelta

import pytest
from werkzeug.test import TestResponse

from api import reviews
from shared.domain import Role
from shared.errors import Unavailable
from tests.api.calls import Api, record_problem
from tests.api.pages.conftest import Visitor
from tests.factories import add_key

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.mark.parametrize(("bound", "days", "is_shown"), [
    ("sent_until", -1, False), ("sent_until", 0, True), ("sent_from", 0, True), ("sent_from", 1, False),
])  # fmt: skip
def test_both_days_between_which_a_case_was_sent_are_included(
    reviewer_visitor, clinic, analysed, bound, days, is_shown
):
    sent_at = clinic.get(f"/v1/cases/{analysed}").json["submitted_at"]
    day = date.fromisoformat(sent_at[:10]) + timedelta(days=days)
    shown = reviewer_visitor.get(f"/worklist?{bound}={day}")
    assert (shown.status_code, analysed in shown.text) == (200, is_shown)


def test_the_next_cases_are_those_of_the_list_in_its_order(reviewer_visitor, clinic, succeed, database):
    first, failed, second, routine = (
        clinic.submit(priority=priority).json["id"] for priority in ("urgent", "urgent", "urgent", "routine")
    )
    for case_id in (routine, second, first):
        succeed(case_id)
    record_problem(database, failed)
    filters = f"?clinic_id={clinic.id}"
    order = [failed, first, second, routine]
    for case_id, following in zip(order, [*(f"/{each}" for each in order[1:]), ""], strict=True):
        led = reviewer_visitor.get(f"/worklist/{case_id}/next{filters}")
        assert (led.status_code, led.location) == (303, f"/app/worklist{following}{filters}")


def test_cases_of_several_clinics_are_told_apart_and_lead_to_their_review(
    reviewer_visitor, clinic_visitor, reviewer, clinic, other_clinic, succeed
):
    mine, other = (api.submit(reference="1234").json["id"] for api in (clinic, other_clinic))
    succeed(mine)
    listed = reviewer_visitor.get("/cases?reference=1234").text
    assert f'href="/app/worklist/{mine}"' in listed
    assert f'href="/app/cases/{other}"' in listed  # there is nothing to review yet
    names = {each["id"]: each["name"] for each in reviewer.get("/v1/worklist/clinics").json["clinics"]}
    assert all(names[str(each.id)] in listed for each in (clinic, other_clinic))
    for address in (f"/cases/{mine}", f"/worklist/{mine}"):
        assert names[str(clinic.id)] in reviewer_visitor.get(address).text
        assert names[str(other_clinic.id)] not in reviewer_visitor.get(address).text
    assert "<dt>Clinic" not in clinic_visitor.get(f"/cases/{mine}").text


def test_a_review_of_a_failed_case_is_no_verdict_on_the_result_that_came_later(
    reviewer_visitor, clinic, succeed, admin, database
):
    case_id = clinic.submit().json["id"]
    record_problem(database, case_id)
    assert review(reviewer_visitor, case_id, "0").status_code == 303
    assert "has seen it, without a result" in reviewer_visitor.get(f"/worklist/{case_id}").text
    admin.call("POST", f"/v1/admin/failed/{case_id}/requeue")
    succeed(case_id)
    page = reviewer_visitor.get(f"/worklist/{case_id}").text
    assert "has seen it, without a result" in page
    assert "disagrees" not in page


UNREADABLE = {"verdict": "disagree", "note": "\a"}


def test_a_review_that_was_refused_for_its_note_replaces_no_colleagues_review_that_came_meanwhile(
    reviewer_visitor, reviewer, analysed, database
):
    colleague = Api(reviewer.client, add_key(database, Role.REVIEWER))
    colleague.call("PUT", f"/v1/cases/{analysed}/review", {"If-None-Match": "*"}, json={"verdict": "agree"})
    refused = reviewer_visitor.post(f"/worklist/{analysed}/review", UNREADABLE | {"version": "0"})
    assert refused.status_code == 400
    again = review(reviewer_visitor, analysed, version_in(refused))
    assert (again.status_code, "reviewed in the meantime" in again.text) == (412, True)
    assert reviewer.get(f"/v1/cases/{analysed}/review").json["review"]["verdict"] == "agree"
    assert review(reviewer_visitor, analysed, version_in(again)).status_code == 303


def test_a_verdict_that_an_outage_kept_back_is_not_moved_to_a_result_that_came_meanwhile(
    reviewer_visitor, reviewer, clinic, succeed, admin, database, monkeypatch
):
    case_id = clinic.submit().json["id"]
    record_problem(database, case_id)
    admin.call("POST", f"/v1/admin/failed/{case_id}/requeue")
    succeed(case_id)
    with monkeypatch.context() as outage:
        outage.setattr(reviews, "save_review", go_away)
        kept_back = review(reviewer_visitor, case_id, "0")
    assert kept_back.status_code == 503
    again = review(reviewer_visitor, case_id, version_in(kept_back))
    assert (again.status_code, "analysed again in the meantime" in again.text) == (412, True)
    assert reviewer.get(f"/v1/cases/{case_id}/review").json["review"] is None


def go_away(*_) -> None:
    raise Unavailable("database_unavailable", "The database cannot be reached right now. Please try again.")


def test_a_heatmap_chosen_on_a_page_that_answered_a_form_has_an_address(reviewer_visitor, analysed):
    refused = review(reviewer_visitor, analysed, "7", "?state=succeeded")
    assert refused.status_code == 412
    address = html.unescape(re.search(r'href="/app(/worklist/[^"]*class=nevus)"', refused.text)[1])
    assert address == f"/worklist/{analysed}?state=succeeded&class=nevus"
    assert reviewer_visitor.get(address).status_code == 200


@pytest.mark.parametrize("version", ["", "1" * 10, "1" * 5000, "-1", "٣"])
def test_a_version_that_no_page_has_is_refused(reviewer_visitor, reviewer, analysed, version):
    refused = review(reviewer_visitor, analysed, version)
    assert (refused.status_code, "Reload the page." in refused.text) == (400, True)
    assert reviewer.get(f"/v1/cases/{analysed}/review").json["review"] is None


def test_an_urgent_case_is_told_of_while_another_one_is_reviewed(reviewer_visitor, clinic, succeed):
    routine, urgent = (clinic.submit(priority=priority).json["id"] for priority in ("routine", "urgent"))
    succeed(routine)
    filters = f"?clinic_id={clinic.id}"
    told = f'An urgent case is waiting: <a href="/app/worklist/{urgent}{filters}">'
    assert told not in reviewer_visitor.get(f"/worklist/{routine}{filters}").text
    succeed(urgent)
    assert told in reviewer_visitor.get(f"/worklist/{routine}{filters}").text
    assert "An urgent case" not in reviewer_visitor.get(f"/worklist/{urgent}{filters}").text


def review(visitor: Visitor, case_id: str, version: str, filters: str = "") -> TestResponse:
    return visitor.post(f"/worklist/{case_id}/review{filters}", {"verdict": "disagree", "version": version})


def version_in(page: TestResponse) -> str:
    return re.search('name="version" value="(.*?)"', page.text)[1]
