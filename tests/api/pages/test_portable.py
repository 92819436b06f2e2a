"""The page that reads photographs on the device, as the API serves it: its policy, what is kept, how it is renewed."""

from pathlib import Path

import pytest
from playwright.sync_api import expect

from api.pages import portable
from shared.domain import NO_ALL_CLEAR, NOTICE
from tests.portable_page import RED, open_portable, read, write_tiny_model

PAGE = "/app/portable/"

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def model(tmp_path, monkeypatch) -> Path:
    """The file that the server finds: a tiny network's, to be replaced at will."""
    file = tmp_path / portable.MODEL
    file.write_bytes(write_tiny_model())
    monkeypatch.setattr(portable, "SHIPPED_MODEL", file)
    return file


def test_its_own_parts_alone_are_kept_and_serve_without_a_network_and_without_a_session(open_page, clinic, model):
    page = open_page(clinic)
    open_portable(page, PAGE)
    before = read(page, RED)
    page.context.clear_cookies()
    page.context.set_offline(True)
    open_portable(page, PAGE)
    assert read(page, RED) == before
    kept = page.evaluate(
        "async () => Promise.all((await caches.keys()).map(async (name) => "
        "(await (await caches.open(name)).keys()).map((request) => new URL(request.url).pathname)))"
    )
    parts = portable.list_parts(model).keys() - {"service-worker.js"}
    assert [{address.removeprefix(PAGE) for address in cache} for cache in kept] == [{"", *parts}]


def test_a_new_model_is_fetched_meanwhile_and_used_from_the_next_time_on(open_page, clinic, model):
    page = open_page(clinic)
    open_portable(page, PAGE)
    (before,) = page.evaluate("caches.keys()")
    model.write_bytes(write_tiny_model(version="2"))
    open_portable(page, PAGE)
    expect(page.get_by_text("tiny 1")).to_be_visible()
    page.evaluate(
        """async (before) => {
            const kept = await navigator.serviceWorker.getRegistration();
            const isRenewed = async () => kept.waiting || !(await caches.keys()).includes(before);
            while (!(await isRenewed())) await new Promise((resolve) => setTimeout(resolve, 50));
        }""",
        before,
    )
    page.goto("about:blank")
    open_portable(page, PAGE)
    expect(page.get_by_text("tiny 2")).to_be_visible()
    (after,) = page.evaluate("caches.keys()")
    assert after != before


def test_files_of_two_versions_are_never_mixed(open_page, clinic, model, tmp_path, monkeypatch):
    page = open_page(clinic)
    open_portable(page, PAGE)
    before = page.evaluate("caches.keys()")
    newer = tmp_path / "newer.onnx"
    newer.write_bytes(write_tiny_model(version="2"))
    write = portable.write_service_worker
    monkeypatch.setattr(portable, "write_service_worker", lambda parts: write(parts | {portable.MODEL: newer}))
    ended = page.evaluate(
        """async () => {
            const kept = await navigator.serviceWorker.getRegistration();
            const worker = (await kept.update()).installing;
            while (worker.state === "installing") await new Promise((resolve) => setTimeout(resolve, 50));
            return worker.state;
        }"""
    )
    assert ended == "redundant"
    assert page.evaluate("caches.keys()") == before
    open_portable(page, PAGE)
    expect(page.get_by_text("tiny 1")).to_be_visible()


def test_when_the_session_has_ended_no_sign_in_page_takes_the_place_of_a_part(open_page, clinic, model):
    page = open_page(clinic)
    open_portable(page, PAGE)
    model.write_bytes(write_tiny_model(version="2"))
    page.context.clear_cookies()
    open_portable(page, PAGE)
    expect(page.get_by_text("tiny 1")).to_be_visible()


def test_without_a_model_the_page_says_so_and_offers_nothing(open_page, clinic, model):
    model.unlink()
    page = open_page(clinic)
    page.goto(PAGE)
    expect(page.get_by_role("status")).to_contain_text("portable.onnx is missing")
    expect(page.get_by_label("A photograph of one lesion")).to_be_hidden()


def test_a_file_that_is_no_model_is_told_and_does_not_freeze_the_page(open_page, clinic, model):
    model.write_bytes(portable.list_parts(model)["index.html"].read_bytes())  # as some servers answer for any address
    page = open_page(clinic)
    page.goto(PAGE)
    expect(page.get_by_role("status")).to_contain_text("This browser cannot run the model.")
    expect(page.get_by_role("status")).to_contain_text("The file is no ONNX file, or its end is missing.")
    expect(page.get_by_label("A photograph of one lesion")).to_be_hidden()


def test_a_link_leads_to_the_page_and_one_back(open_page, clinic, model):
    page = open_page(clinic)
    page.get_by_role("link", name="On this device").click()
    page.get_by_role("link", name="Back to cases").click()
    page.wait_for_url("**/app/cases")


def test_it_is_said_what_a_result_is_in_the_words_of_the_other_pages(clinic_visitor, model):
    assert f"<strong>{NOTICE}</strong> {NO_ALL_CLEAR}" in clinic_visitor.get("/portable/").text


def test_webassembly_may_run_on_this_page_alone(clinic_visitor, model):
    addresses = ("/portable/", "/portable/service-worker.js", "/portable/page.js", "/cases", "/submit", "/model")
    policies = {address: clinic_visitor.get(address).headers["Content-Security-Policy"] for address in addresses}
    assert [address for address, policy in policies.items() if "wasm-unsafe-eval" in policy] == ["/portable/"]
    assert policies["/portable/service-worker.js"] == "default-src 'none'; connect-src 'self'"


def test_nothing_but_the_parts_can_be_fetched(clinic_visitor, model):
    for address in ("/portable/../frame.py", "/portable/portable.py", "/portable/onnxruntime/", "/portable/%2e%2e/x"):
        assert clinic_visitor.get(address).status_code == 404
