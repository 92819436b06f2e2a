"""A reviewer's pages: which cases the list shows, and which one follows."""

from datetime import date, timedelta

import pytest

from tests.api.calls import record_problem

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
