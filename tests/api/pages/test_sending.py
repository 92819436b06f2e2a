"""Photographs that are sent from the page in Chromium: chosen and dropped, while the network comes and goes."""

import pytest
from playwright.sync_api import Page, expect

from tests.api.calls import JPEG

SENT_MS = 10_000

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def drop(page: Page, files: dict[str, bytes]) -> None:
    """Drop files onto the page that sends photographs."""
    transfer = page.evaluate_handle(
        """contents => {
            const transfer = new DataTransfer();
            for (const [name, hex] of contents) {
                const bytes = Uint8Array.from(hex.match(/../g), (byte) => parseInt(byte, 16));
                transfer.items.add(new File([bytes], name));
            }
            return transfer;
        }""",
        [(name, data.hex()) for name, data in files.items()],
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": transfer})


def send(page: Page) -> None:
    page.locator("#many").get_by_role("button", name="Send").click()


def test_dropped_photographs_are_sent_one_by_one_each_with_its_fate(open_page, clinic):
    page = open_page(clinic)
    page.goto("/app/submit")
    drop(page, {"one.jpg": JPEG, "two.jpg": b"text", "three.jpg": JPEG})
    send(page)
    expect(page.get_by_text("2 of 3 sent, 1 not accepted. Done.")).to_be_visible(timeout=SENT_MS)
    expect(page.get_by_role("listitem").filter(has_text="two.jpg")).to_contain_text("This file seems to be text")
    page.get_by_role("link", name="three.jpg").click()
    expect(page.get_by_role("heading", name="Case three.jpg")).to_be_visible()
    assert len(clinic.get("/v1/cases").json["cases"]) == 2


def test_dropped_photographs_wait_until_it_is_said_how_soon_they_are_needed(open_page, clinic):
    page = open_page(clinic)
    page.goto("/app/submit")
    drop(page, {f"{number}.jpg": JPEG for number in range(9)})
    drop(page, {"left.jpg": JPEG, "right.jpg": JPEG, "back.jpg": JPEG})
    expect(page.get_by_text("12 photographs chosen, not sent yet: 0.jpg, 1.jpg")).to_contain_text("left.jpg and 2 more")
    page.get_by_label("Urgent").check()
    send(page)
    expect(page.get_by_text("12 of 12 sent. Done.")).to_be_visible(timeout=SENT_MS)
    expect(page.get_by_text("not sent yet")).to_have_count(0)
    assert [case["priority"] for case in clinic.get("/v1/cases").json["cases"]] == ["urgent"] * 12


def test_of_what_is_dropped_a_folder_is_refused_at_once(open_page, clinic, tmp_path):
    (folder := tmp_path / "folder").mkdir()
    for file in (folder / "in_it.jpg", beside := tmp_path / "beside_it.jpg"):
        file.write_bytes(JPEG)
    page = open_page(clinic)
    page.goto("/app/submit")
    box, mouse = page.locator(".drop").bounding_box(), page.context.new_cdp_session(page)
    place = {"x": box["x"] + 20, "y": box["y"] + 20}
    dragged = {"items": [], "files": [str(folder), str(beside)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        mouse.send("Input.dispatchDragEvent", {"type": kind, "data": dragged} | place)
    expect(page.get_by_text("A folder cannot be sent")).to_contain_text(
        "1 photograph chosen, not sent yet: beside_it.jpg."
    )
    send(page)
    expect(page.get_by_text("1 of 1 sent. Done.")).to_be_visible(timeout=SENT_MS)


def test_a_photograph_that_met_a_proxy_without_its_service_or_a_broken_line_is_sent_again(
    open_page, clinic, rows, meant
):
    meant.append("status of 408")
    page, answers = open_page(clinic), iter([502, 504, 408])
    page.clock.install()
    page.goto("/app/submit")

    def answer(route) -> None:
        status = next(answers, None)
        route.fulfill(status=status) if status else route.continue_()

    page.route("**/app/submissions", answer)
    page.locator("#image").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": JPEG})
    send(page)
    for _ in range(3):
        expect(page.get_by_text("It will be retried.")).to_be_visible()
        with page.expect_response("**/app/submissions"):
            page.clock.fast_forward(5_000)
    expect(page.get_by_role("link", name="a.jpg")).to_be_visible()
    assert len(rows("cases")) == 1


@pytest.mark.parametrize(("second", "cases"), [(JPEG, 1), (JPEG[:-3] + b"\x55" + JPEG[-2:], 2)], ids=["same", "other"])
def test_a_photograph_whose_answer_was_lost_is_known_when_it_is_sent_again_and_another_is_not(
    open_page, clinic, rows, meant, second, cases
):
    meant.append("status of 422")
    page = open_page(clinic)
    page.clock.install()
    page.goto("/app/submit")
    network = page.context.new_cdp_session(page)

    def lose(answer: dict) -> None:
        network.send("Fetch.failRequest", {"requestId": answer["requestId"], "errorReason": "Failed"})

    network.on("Fetch.requestPaused", lose)
    network.send("Fetch.enable", {"patterns": [{"urlPattern": "*/app/submissions", "requestStage": "Response"}]})
    page.locator("#image").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": JPEG})
    send(page)
    for _ in range(5):
        expect(page.get_by_text("It will be retried.")).to_be_visible()
        with page.expect_event("requestfailed"):
            page.clock.fast_forward(5_000)
    expect(page.get_by_text("No connection. Send it again.")).to_be_visible()
    assert len(rows("cases")) == 1
    network.send("Fetch.disable")
    page.locator("#image").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": second})
    send(page)
    expect(page.get_by_role("link", name="a.jpg")).to_be_visible()
    assert len(rows("cases")) == cases
