"""Forms in Chromium: a review is made, and what is written is not lost when it cannot be sent or came second."""

from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from shared.domain import Role
from tests.api.calls import JPEG, Api
from tests.factories import add_key

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_a_reviewer_judges_and_goes_on_and_one_key_skips(open_page, clinic, reviewer, succeed):
    for number in range(3):
        succeed(clinic.submit(reference=f"mole-{number}").json["id"])
    page = open_page(reviewer)
    expect(page.get_by_role("status")).to_have_text("3 to review")
    page.get_by_role("link", name="mole-0").click()
    expect(page.get_by_label("for the next case")).to_be_visible()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="Case mole-1")).to_be_visible()
    page.get_by_label("Note").press("n")
    expect(page.get_by_role("heading", name="Case mole-1")).to_be_visible()
    page.get_by_label("I disagree").check()
    page.get_by_label("My diagnosis").select_option("Nevus")
    page.get_by_role("button", name="Save and continue").click()
    expect(page.get_by_role("heading", name="Case mole-2")).to_be_visible()
    expect(page.get_by_label("for the next case")).to_be_checked()  # once the script has run, and not before
    page.get_by_label("for the next case").uncheck()
    page.get_by_role("heading", name="Case mole-2").click()
    page.keyboard.press("n")
    expect(page.get_by_role("heading", name="Case mole-2")).to_be_visible()
    page.get_by_role("link", name="Next case").click()
    expect(page.get_by_role("status")).to_have_text("2 to review")


def test_whoever_leaves_a_verdict_that_is_not_saved_is_asked(open_page, clinic, reviewer, succeed):
    for number in range(2):
        succeed(clinic.submit(reference=f"mole-{number}").json["id"])
    page, asked = open_page(reviewer), []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.get_by_role("link", name="mole-0").click()
    page.get_by_label("I disagree").check()
    with page.expect_download():
        page.get_by_role("link", name="Report (PDF)").click()
    assert asked == []
    page.get_by_role("link", name="Next case").click()
    page.get_by_role("heading", name="Case mole-0").click()
    page.keyboard.press("n")
    expect(page.get_by_label("I disagree")).to_be_checked()
    assert asked == ["beforeunload", "beforeunload"]
    page.get_by_role("button", name="Save and continue").click()
    expect(page.get_by_role("heading", name="Case mole-1")).to_be_visible()


def test_a_review_that_was_stopped_on_its_way_can_be_sent_again(open_page, reviewer, analysed):
    page, held = open_page(reviewer), []
    page.goto(f"/app/worklist/{analysed}")
    page.get_by_label("I agree").check()
    page.route("**/review", lambda route: held.append(route))
    save = page.get_by_role("button", name="Save and continue")
    with page.expect_request("**/review"):
        save.click(no_wait_after=True)
    page.context.new_cdp_session(page).send("Page.stopLoading")
    page.once("dialog", lambda dialog: dialog.dismiss())
    with page.expect_event("dialog"):
        page.get_by_role("link", name="Next case").click(no_wait_after=True)
    page.unroute("**/review")
    save.click()
    page.wait_for_url("**/app/worklist")
    assert [review["verdict"] for review in said_of(reviewer, analysed)] == ["agree"]


def answering(status: int) -> Callable[[Route], None]:
    return lambda route: route.fulfill(status=status)


def test_a_review_that_cannot_be_sent_stays_on_the_page_and_is_still_asked_for(open_page, reviewer, analysed, meant):
    meant += ["net::ERR_INTERNET_DISCONNECTED", "status of 503"]
    page, asked = open_page(reviewer), []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    page.goto(f"/app/worklist/{analysed}")
    page.get_by_label("I disagree").check()
    page.get_by_label("Note").fill("A careful note")
    page.context.set_offline(True)
    page.get_by_role("button", name="Save and continue").click()
    expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached, and nothing was sent")
    page.context.set_offline(False)
    for status in (502, 503):
        page.route("**/model", answering(status))
        page.get_by_role("button", name="Save and continue").click()
        expect(page.get_by_role("alert")).to_contain_text("The service cannot be reached, and nothing was sent")
    page.get_by_role("link", name="Next case").click()
    expect(page.get_by_label("Note")).to_have_value("A careful note")
    assert asked == ["beforeunload"]
    page.unroute("**/model")
    page.get_by_role("button", name="Save and continue").click()
    page.wait_for_url("**/app/worklist")
    assert asked == ["beforeunload"]


def test_a_review_that_the_browser_fills_in_again_after_back_is_not_left_unasked(open_page, reviewer, analysed):
    page = open_page(reviewer)
    page.goto(f"/app/worklist/{analysed}")
    page.get_by_label("My diagnosis").select_option("Nevus")
    page.once("dialog", lambda dialog: dialog.accept())
    page.get_by_role("link", name="Next case").click()
    page.wait_for_url("**/app/worklist")
    page.go_back()
    page.once("dialog", lambda dialog: dialog.dismiss())
    with page.expect_event("dialog"):
        page.get_by_role("link", name="Next case").click(no_wait_after=True)


def test_a_photograph_that_is_kept_back_for_others_can_be_sent_after_all(open_page, clinic, meant):
    meant.append("status of 503")  # of the model's page: no worker has loaded one yet, and photographs are accepted
    page = open_page(clinic)
    page.goto("/app/submit")
    photograph = {"name": "a.jpg", "mimeType": "image/jpeg", "buffer": JPEG}
    page.get_by_label("Photographs, one lesion each").set_input_files(photograph)
    page.get_by_text("One photograph, with details").click()
    page.locator("#one-image").set_input_files(photograph)
    send = page.locator("#one").get_by_role("button", name="Send")
    page.once("dialog", lambda dialog: dialog.dismiss())
    with page.expect_event("dialog"):
        send.click(no_wait_after=True)
    page.get_by_label("Photographs, one lesion each").set_input_files([])
    send.click()
    page.wait_for_url("**/app/cases/*")
    assert len(clinic.get("/v1/cases").json["cases"]) == 1


def test_of_two_reviewers_the_second_is_told_and_overwrites_nothing(open_page, reviewer, analysed, database):
    other = Api(reviewer.client, add_key(database, Role.REVIEWER))
    first, second = open_page(reviewer), open_page(other)
    for page in (first, second):
        page.goto(f"/app/worklist/{analysed}")
    expect(second.get_by_text("Another reviewer has this case open")).to_be_visible()
    first.get_by_label("I agree").check()
    first.get_by_role("button", name="Save and continue").click()
    first.wait_for_url("**/app/worklist")
    second.get_by_label("I disagree").check()
    second.get_by_label("Note").fill("Look again.")
    with second.expect_response(lambda answer: answer.request.method == "POST") as answer:
        second.get_by_role("button", name="Save and continue").click()
    assert answer.value.status == 412
    expect(second.get_by_role("alert")).to_contain_text("This case has been reviewed in the meantime")
    expect(second.get_by_text("agrees with the model")).to_be_visible()
    expect(second.get_by_label("Note")).to_have_value("Look again.")
    second.once("dialog", lambda dialog: dialog.dismiss())
    second.get_by_role("link", name="Next case").click()
    assert [review["verdict"] for review in said_of(reviewer, analysed)] == ["agree"]
    second.get_by_role("button", name="Update and continue").click()
    second.wait_for_url("**/app/worklist")
    assert [review["verdict"] for review in said_of(reviewer, analysed)] == ["disagree", "agree"]


def said_of(reviewer: Api, case_id: str) -> list[dict]:
    found = reviewer.get(f"/v1/cases/{case_id}/review").json
    return [found["review"], *found["earlier"]]
