"""The pages in Chromium: with scripts and without, by mouse, touch and keyboard, wide and narrow, light and dark."""

import re
from functools import reduce
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from shared.database import Database, read_clock
from shared.store import workers
from shared.store.workers import Worker
from tests.api.calls import JPEG, MODEL_DIGEST, UNUSABLE, Api, activate_model, record_problem, record_result
from tests.browsing import SIZES, find_faults

POLL_MS = 10_000

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def picture_of(page: Page, selector: str) -> dict:
    """Return how a picture is moved and scaled."""
    return page.eval_on_selector(
        selector,
        "element => { const m = new DOMMatrix(getComputedStyle(element).transform); return {s: m.a, x: m.e}; }",
    )


def test_both_pictures_zoom_and_move_together_by_keyboard_mouse_and_buttons(open_page, clinic, analysed):
    page = open_page(clinic)
    page.goto(f"/app/cases/{analysed}")
    first, second = page.locator(".stage").all()
    first.focus()
    for key in ("+", "+", "ArrowRight"):
        page.keyboard.press(key)
    zoomed = picture_of(page, ".layers")
    assert zoomed["s"] == pytest.approx(1.96)
    assert picture_of(page, "figure:last-child .layers") == zoomed
    box = second.bounding_box()
    page.mouse.move(box["x"] + 100, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 140, box["y"] + 50, steps=4)
    page.mouse.up()
    assert picture_of(page, ".layers")["x"] == pytest.approx(zoomed["x"] + 40, abs=1)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    expect(page.locator("#zoom")).to_have_text("274%")
    page.get_by_role("button", name="Reset zoom").click()
    assert picture_of(page, ".layers") == {"s": 1, "x": 0}


def test_two_fingers_zoom_on_a_phone(open_page, clinic, analysed):
    page = open_page(clinic, viewport=SIZES["narrow"], has_touch=True, is_mobile=True)
    page.goto(f"/app/cases/{analysed}")
    page.locator(".stage").first.scroll_into_view_if_needed()
    box = page.locator(".stage").first.bounding_box()
    y, middle = box["y"] + box["height"] / 2, box["x"] + box["width"] / 2
    fingers = page.context.new_cdp_session(page)

    def touch(kind: str, *apart: float) -> None:
        points = [{"x": middle + side * gap, "y": y, "id": side + 1} for gap in apart for side in (-1, 1)]
        fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", 30)
    for apart in (40, 50, 60):
        touch("touchMove", apart)
    touch("touchEnd")
    assert picture_of(page, ".layers")["s"] == pytest.approx(2, rel=0.1)


def test_the_heatmap_fades_and_changes_its_class(open_page, clinic, analysed):
    page = open_page(clinic)
    page.goto(f"/app/cases/{analysed}")
    overlay = page.locator(".overlay")
    page.get_by_label("Heatmap opacity").focus()
    page.keyboard.press("Home")
    expect(overlay).to_have_css("opacity", "0")
    page.keyboard.press("End")
    expect(overlay).to_have_css("opacity", "1")
    with page.expect_response(re.compile("heatmap.class=nevus")) as answer:
        page.get_by_role("link", name="Nevus").click()
    assert answer.value.ok
    expect(page.get_by_text("Heatmap of nevus")).to_be_visible()
    assert page.url.endswith("class=nevus")
    expect(page.get_by_role("link", name="Nevus")).to_have_attribute("aria-current", "true")


def test_a_heatmap_is_named_once_it_is_seen_and_one_that_does_not_come_is_told(open_page, clinic, analysed):
    page, held = open_page(clinic), []
    page.goto(f"/app/cases/{analysed}")
    page.get_by_label("Heatmap opacity").fill("40")
    page.route("**/heatmap?class=nevus", lambda route: held.append(route))
    with page.expect_request("**/heatmap?class=nevus"):
        page.get_by_role("link", name="Nevus").click()
    assert_shown(page, "melanoma")
    held.pop().fulfill(status=502)
    expect(page.get_by_text("The heatmap of nevus could not be loaded.")).to_be_visible()
    assert_shown(page, "melanoma")
    with page.expect_request("**/heatmap?class=nevus"):
        page.get_by_role("link", name="Nevus").click()
    page.get_by_role("link", name="Seborrheic keratosis").click()
    assert_shown(page, "seborrheic keratosis")
    expect(page.get_by_text("could not be loaded")).to_be_hidden()
    with page.expect_event("requestfinished"):
        held.pop().continue_()
    expect(page.get_by_role("link", name="Nevus")).not_to_have_attribute("aria-busy", "true")
    assert_shown(page, "seborrheic keratosis")
    expect(page.locator(".overlay")).to_have_css("opacity", "0.4")


def assert_shown(page: Page, name: str) -> None:
    expect(page.get_by_text(f"Heatmap of {name}:")).to_be_visible()
    expect(page.get_by_role("link", name=name)).to_have_attribute("aria-current", "true")
    expect(page.locator(".overlay")).to_have_attribute("src", re.compile(f"class={name.replace(' ', '_')}$"))


def test_a_first_heatmap_that_does_not_come_is_told(open_page, clinic, analysed):
    page = open_page(clinic)
    page.route("**/heatmap?*", lambda route: route.fulfill(status=502))
    page.goto(f"/app/cases/{analysed}")
    expect(page.get_by_text("The heatmap of melanoma could not be loaded.")).to_be_visible()
    page.unroute("**/heatmap?*")
    page.get_by_role("link", name="Melanoma").click()
    expect(page.get_by_text("could not be loaded")).to_be_hidden()


def test_an_admin_sees_a_case_fail_and_gives_it_another_try(open_page, clinic, admin, database):
    case_id = clinic.submit().json["id"]
    page = open_page(admin)
    waiting = page.get_by_role("definition").first
    expect(waiting).to_have_text("1")
    add_worker(database)
    expect(page.get_by_role("row").filter(has_text="gpu-1")).to_contain_text("Alive", timeout=POLL_MS)
    record_problem(database, case_id)
    expect(waiting).to_have_text("0", timeout=POLL_MS)
    page.get_by_role("link", name="Failed").click()
    page.get_by_role("button", name=f"Requeue {case_id[:8]}").click()
    expect(page.get_by_text("No failed cases.")).to_be_visible()
    page.get_by_role("link", name="Audit").click()
    page.get_by_role("link", name=case_id[:8]).first.click()
    expect(page.get_by_role("row")).to_contain_text(["No.", "case.requeued", "case.submitted"])
    assert clinic.get(f"/v1/cases/{case_id}").json["state"] == "queued"


def test_an_admin_adds_a_clinic_and_its_key_and_ends_the_key(open_page, admin):
    page = open_page(admin)
    page.get_by_role("link", name="Clinics and keys").click()
    page.get_by_label("New clinic’s name").fill("Clinic North")
    page.get_by_role("button", name="Add clinic").click()
    page.get_by_role("row").filter(has_text="Clinic North").get_by_label("Retention (days)").fill("90")
    page.get_by_role("button", name="Save limits of Clinic North").click()
    erase = page.get_by_role("button", name="Erase older cases")
    erase.wait_for()
    assert find_faults(page, "_retention") == []
    erase.click()
    expect(page.get_by_label("Retention (days)")).to_have_value("90")
    page.get_by_label("For clinic").select_option("Clinic North")
    page.get_by_role("button", name="Create key").click()
    key = Api(admin.client, page.locator("code").filter(has_text="dq_").inner_text())
    assert key.get("/v1/cases").status_code == 200
    page.get_by_role("link", name="I have copied it").click()
    prefix = key.key.split("_")[1]
    page.get_by_role("link", name=f"Revoke {prefix}").click()
    page.get_by_role("button", name="Revoke permanently").click()
    expect(page.get_by_role("row").filter(has_text=prefix)).to_contain_text("Revoked")
    assert key.get("/v1/cases").status_code == 401


def add_worker(database: Database) -> None:
    """Do as a worker's heartbeat."""
    activate_model(database)
    with database.writing() as session:
        worker = Worker(uuid4(), "gpu-1:7", "cuda: H100", 16, MODEL_DIGEST, 1234.5)
        workers.note_worker(session, worker, read_clock(session))


def test_without_scripts_photographs_are_sent_and_pictures_are_seen(open_page, clinic, succeed):
    page = open_page(clinic, java_script_enabled=False)
    page.get_by_role("link", name="Send photographs").first.click()
    page.get_by_label("Photographs, one lesion each").set_input_files(
        [{"name": name, "mimeType": "image/jpeg", "buffer": JPEG} for name in ("one.jpg", "two.jpg")]
    )
    page.locator("#many").get_by_role("button", name="Send").click()
    expect(page.get_by_role("status")).to_contain_text("2 in total · 2 waiting")
    for case in clinic.get("/v1/cases").json["cases"]:
        succeed(case["id"])
    page.get_by_role("link", name="one.jpg").click()
    expect(page.get_by_alt_text("The heatmap on the photograph")).to_be_visible()
    page.get_by_role("link", name="Seborrheic keratosis").click()
    expect(page.get_by_text("Heatmap of seborrheic keratosis")).to_be_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_with_a_persons_own_colours_what_is_chosen_and_what_a_key_stands_for_is_still_seen(
    open_page, clinic, admin, analysed, scheme
):
    page = open_page(clinic, forced_colors="active", color_scheme=scheme)
    (current,), others = colours(page, ".top nav [aria-current]"), colours(page, ".top nav a:not([aria-current])")
    assert current["border"] not in {other["border"] for other in others}
    page.goto(f"/app/cases/{analysed}")
    (chosen,), others = colours(page, ".classes [aria-current]"), colours(page, ".classes a:not([aria-current])")
    assert chosen["ground"] not in {other["ground"] for other in others}
    (key,), (threshold,) = colours(page, ".threshold-key"), colours(page, ".threshold")
    assert key["ground"] == threshold["stroke"]
    page = open_page(admin, forced_colors="active", color_scheme=scheme)
    keys = colours(page, "figcaption .key")
    assert len({key["ground"] for key in keys}) == 3
    assert colours(page, ".chart .succeeded")[0]["fill"] == keys[0]["ground"]


def colours(page: Page, selector: str) -> list[dict[str, str]]:
    page.wait_for_load_state()  # with its style sheets
    return page.locator(selector).evaluate_all(
        """parts => parts.map((part) => getComputedStyle(part)).map((style) => ({
            ground: style.backgroundColor, border: style.borderBottomColor, fill: style.fill, stroke: style.stroke,
        }))"""
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_no_fault_and_no_page_is_wider_than_its_window(
    open_page, clinic, reviewer, admin, database, store, scheme, size
):
    ids = {name: clinic.submit(reference=name).json["id"] for name in ("good", "bad", "unusable", "waiting")}
    good, bad, unusable, _ = ids.values()
    record_result(database, store, good)
    record_problem(database, bad)
    record_problem(database, unusable, UNUSABLE)
    add_worker(database)
    key = admin.get("/v1/admin/keys").json["keys"][0]["id"]
    addresses = {
        clinic: [
            "/cases",
            "/submit",
            *(f"/cases/{case_id}" for case_id in ids.values()),
            f"/cases/{good}/erase",
            "/model",
        ],
        reviewer: ["/worklist", f"/worklist/{good}", f"/worklist/{bad}"],
        admin: [
            *("/queue", "/failed", "/access", "/audit"),
            *(f"/access/keys/{key}/{action}" for action in ("rotate", "revoke")),
        ],
    }
    faults = []
    for api, pages in addresses.items():
        page = open_page(api, viewport=SIZES[size], color_scheme=scheme)
        for address in pages:
            page.goto(f"/app{address}")
            name = reduce(
                lambda text, pair: text.replace(pair[1], pair[0]), {**ids, "key": key}.items(), address
            ).replace("/", "-")
            faults += find_faults(page, f"{name}-{size}-{scheme}")
    assert faults == []
