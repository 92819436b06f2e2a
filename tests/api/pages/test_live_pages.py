"""Pages that renew themselves: news come, and what somebody looks at or types stays as it is."""

from datetime import UTC, datetime

import pytest
from playwright.sync_api import Page, expect

from shared.database import Database
from shared.domain import Role
from shared.service_tables import SessionRow
from tests.api.calls import JPEG, Api, record_problem
from tests.browsing import SIZES, enter_key
from tests.factories import add_key

POLL_MS = 10_000

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_the_table_shows_a_result_without_being_loaded_again(open_page, clinic, succeed):
    case_id = clinic.submit(reference="mole-1").json["id"]
    page = open_page(clinic)
    page.goto("/app/cases")
    page.evaluate("window.loadedOnce = true")
    row = page.get_by_role("row").filter(has_text="mole-1")
    expect(row).to_contain_text("Waiting")
    page.get_by_role("link", name="mole-1").focus()
    succeed(case_id)
    expect(row).to_contain_text("Refer", timeout=POLL_MS)
    expect(page.get_by_role("status")).to_contain_text("1 analysed")
    expect(page.get_by_role("link", name="mole-1")).to_be_focused()
    assert page.evaluate("window.loadedOnce")


def test_an_older_browser_without_timeouts_shows_news_too(open_page, clinic, succeed):
    case_id = clinic.submit().json["id"]
    page = open_page(clinic)
    page.add_init_script("delete AbortSignal.timeout")
    page.goto(f"/app/cases/{case_id}")
    succeed(case_id)
    expect(page.get_by_role("heading", name="Model output")).to_be_visible(timeout=POLL_MS)


def test_a_waiting_cases_page_becomes_its_result_and_the_pictures_can_be_used(open_page, clinic, succeed):
    case_id = clinic.submit().json["id"]
    page = open_page(clinic)
    page.goto(f"/app/cases/{case_id}")
    succeed(case_id)
    expect(page.get_by_role("heading", name="Model output")).to_be_visible(timeout=POLL_MS)
    page.get_by_role("button", name="Zoom in").click()
    expect(page.locator("#zoom")).to_have_text("140%")
    expect(page.get_by_role("link", name="Report (PDF)")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def look_again(page: Page, after_ms: int) -> None:
    """Let so much time pass that a page that renews itself does so."""
    with page.expect_response(lambda answer: "dermqueue-live" in answer.request.headers):
        page.clock.fast_forward(after_ms)


def test_what_a_reviewer_looks_at_stays_as_it_is_while_news_come(open_page, reviewer, analysed, database):
    page, other = open_page(reviewer), Api(reviewer.client, add_key(database, Role.REVIEWER))
    page.clock.install()
    page.goto(f"/app/worklist/{analysed}")
    page.get_by_role("button", name="Zoom in").click()
    for _ in range(2):
        look_again(page, 15_000)
    other.call("PUT", f"/v1/cases/{analysed}/review", {"If-None-Match": "*"}, json={"verdict": "agree"})
    look_again(page, 15_000)
    expect(page.get_by_text("agrees with the model")).to_be_visible()
    expect(page.locator("#zoom")).to_have_text("140%")


def test_a_page_that_cannot_be_renewed_says_so_until_it_can(open_page, admin):
    page = open_page(admin)
    page.clock.install()
    page.goto("/app/queue")
    notice = page.get_by_text("Not updated since")
    page.route("**/app/queue", lambda route: route.abort())
    for _ in range(3):
        with page.expect_event("requestfailed"):
            page.clock.fast_forward(5_000)
    expect(notice).to_be_visible()
    page.unroute("**/app/queue")
    look_again(page, 5_000)
    expect(notice).to_be_hidden()


def test_a_page_that_was_hidden_tells_at_once_that_it_is_old(open_page, admin):
    page = open_page(admin)
    page.clock.install(time=datetime(2026, 1, 31, 8, 59, tzinfo=UTC))
    page.goto("/app/queue")
    look_again(page, 5_000)
    show(page, hidden=True)
    page.clock.fast_forward("02:00:00")
    page.route("**/app/queue", lambda route: route.abort())
    with page.expect_event("requestfailed"):
        show(page, hidden=False)
    expect(page.get_by_text("Not updated since 2026-01-31 08:59 UTC")).to_be_visible()
    show(page, hidden=True)
    page.clock.fast_forward(5_000)
    expect(page.get_by_text("Not updated since 2026-01-31 08:59 UTC")).to_be_visible()


def show(page: Page, *, hidden: bool) -> None:
    """Do as a browser does when its tab is left or comes back."""
    page.evaluate(
        """(hidden) => {
            Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
            document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


def end_sessions(database: Database) -> None:
    """Do as time does to those who stay away."""
    with database.writing() as session:
        session.query(SessionRow).delete()


def test_what_a_reviewer_wrote_stays_to_be_copied_when_the_session_ends(open_page, reviewer, analysed, database):
    page = open_page(reviewer)
    page.clock.install()
    page.goto(f"/app/worklist/{analysed}")
    page.get_by_label("I disagree").check()
    page.get_by_label("Note").fill("A careful note")
    end_sessions(database)
    look_again(page, 15_000)
    expect(page.get_by_text("You are signed out. Copy what you wrote")).to_be_visible()
    page.set_viewport_size(SIZES["narrow"])
    page.get_by_role("main").press("n")
    expect(page.get_by_label("Note")).to_have_value("A careful note")
    expect(page.get_by_role("button", name="Save and continue")).to_be_disabled()
    expect(page.get_by_role("main").get_by_role("img")).to_have_count(0)


def test_a_page_whose_session_has_ended_shows_nothing_of_it_any_more(open_page, reviewer, analysed, database):
    page = open_page(reviewer)
    page.clock.install()
    page.goto(f"/app/worklist/{analysed}")
    end_sessions(database)
    look_again(page, 15_000)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_what_was_written_just_before_the_session_ended_stays_when_it_is_saved(
    open_page, reviewer, clinic, analysed, database
):
    page = open_page(reviewer)
    page.goto(f"/app/worklist/{analysed}")
    page.get_by_label("I disagree").check()
    page.get_by_label("Note").fill("A careful note")
    end_sessions(database)
    page.get_by_role("button", name="Save and continue").click()
    expect(page.get_by_role("alert")).to_contain_text("You are signed out, and nothing was sent")
    expect(page.get_by_label("Note")).to_have_value("A careful note")
    page = open_page(clinic)
    page.goto("/app/submit")
    page.get_by_text("One photograph, with details").click()
    page.locator("#one-image").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": JPEG})
    page.get_by_label("Body site").fill("left calf")
    end_sessions(database)
    page.locator("#one").get_by_role("button", name="Send").click()
    expect(page.get_by_role("alert")).to_contain_text("You are signed out, and nothing was sent")
    expect(page.get_by_label("Body site")).to_have_value("left calf")


@pytest.mark.parametrize("note", ["", "A careful note"])
def test_a_result_that_comes_while_a_failed_case_is_reviewed_takes_the_place_of_the_page(
    open_page, reviewer, clinic, admin, succeed, database, note
):
    case_id = clinic.submit().json["id"]
    record_problem(database, case_id)
    page = open_page(reviewer)
    page.clock.install()
    page.goto(f"/app/worklist/{case_id}")
    look_again(page, 15_000)
    page.get_by_label("Note").fill(note)
    admin.call("POST", f"/v1/admin/failed/{case_id}/requeue")
    succeed(case_id)
    look_again(page, 15_000)
    if note:
        expect(page.get_by_text("This case was analysed again. Copy what you wrote")).to_be_visible()
        expect(page.get_by_label("Note")).to_have_value(note)
    else:
        expect(page.get_by_role("heading", name="Model output")).to_be_visible()


@pytest.mark.parametrize("note", ["", "A careful note"])
def test_an_erased_case_leaves_the_screen_but_for_what_was_written_of_it(
    open_page, clinic, reviewer, analysed, meant, note
):
    meant.append("status of 404")
    page = open_page(reviewer)
    page.clock.install()
    page.goto(f"/app/worklist/{analysed}")
    if note:
        page.get_by_label("Note").fill(note)
    clinic.call("DELETE", f"/v1/cases/{analysed}")
    look_again(page, 15_000)
    expect(page.get_by_role("status")).to_contain_text("This was erased")
    expect(page.get_by_role("heading", level=1)).to_have_text("No longer available")
    expect(page.get_by_role("main").get_by_role("img")).to_have_count(0)
    assert page.get_by_label("Note").evaluate_all("notes => notes.map((note) => note.value)") == [note] * bool(note)


def test_a_review_that_came_second_can_be_sent_again_however_long_it_is_thought_over(
    open_page, reviewer, analysed, database, meant
):
    meant.append("status of 412")
    page, other = open_page(reviewer), Api(reviewer.client, add_key(database, Role.REVIEWER))
    page.clock.install()
    page.goto(f"/app/worklist/{analysed}")
    other.call("PUT", f"/v1/cases/{analysed}/review", {"If-None-Match": "*"}, json={"verdict": "agree"})
    page.get_by_label("I disagree").check()
    page.get_by_role("button", name="Save and continue").click()
    expect(page.get_by_text("agrees with the model")).to_be_visible()
    look_again(page, 15_000)
    page.get_by_role("button", name="Update and continue").click()
    expect(page.get_by_role("heading", name="Worklist")).to_be_visible()


def test_a_proxys_404_ends_no_page(open_page, admin, meant):
    meant.append("status of 404")
    page = open_page(admin)
    page.clock.install()
    page.goto("/app/queue")
    page.route("**/app/queue", lambda route: route.fulfill(status=404))
    with page.expect_response("**/app/queue"):
        page.clock.fast_forward(5_000)
    expect(page.get_by_role("heading", name="Queue")).to_be_visible()


def test_a_page_that_is_not_for_another_key_leaves_the_screen(open_page, clinic, reviewer, analysed, meant):
    meant.append("status of 403")
    page = open_page(reviewer)
    page.clock.install()
    page.goto(f"/app/worklist/{analysed}")
    enter_key(page.context.new_page(), clinic.key)
    page.bring_to_front()
    look_again(page, 15_000)
    expect(page.get_by_role("status")).to_have_text(
        "You are now signed in with a different key, which may not see this page."
    )
    expect(page.get_by_role("main").get_by_role("img")).to_have_count(0)
