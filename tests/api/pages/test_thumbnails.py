"""Small photographs in lists: drawn once, for those alone who may see them, and again if there was no time."""

import io

import pytest
from PIL import Image
from playwright.sync_api import expect

from tests import images
from tests.api.calls import take_all

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def fetched(services, monkeypatch) -> list[str]:
    """The keys of objects that the app has fetched from the store."""
    keys, get = [], services.store.get
    monkeypatch.setattr(services.store, "get", lambda key: keys.append(key) or get(key))
    return keys


def test_a_thumbnail_is_small_kept_and_audited_when_it_is_sent(clinic_visitor, clinic, succeed, rows):
    case_id = clinic.submit(images.encode(images.lesion(2000, 1000), "JPEG")).json["id"]
    succeed(case_id)
    first = clinic_visitor.get(f"/cases/{case_id}/thumbnail")
    assert Image.open(io.BytesIO(first.data)).size == (160, 80)
    assert first.headers["Cache-Control"] == "private, no-cache"
    again = clinic_visitor.get(f"/cases/{case_id}/thumbnail", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert [row.action for row in rows("audit_events")].count("image.read") == 1


def test_a_thumbnail_in_the_cache_of_a_shared_browser_is_sent_anew_to_the_next_key(
    reviewer_visitor, clinic_visitor, clinic, succeed, rows
):
    case_id = clinic.submit().json["id"]
    succeed(case_id)
    cached = reviewer_visitor.get(f"/cases/{case_id}/thumbnail")
    shown = clinic_visitor.get(f"/cases/{case_id}/thumbnail", headers={"If-None-Match": cached.headers["ETag"]})
    assert (shown.status_code, shown.data) == (200, cached.data)
    assert [row.role for row in rows("audit_events") if row.action == "image.read"] == ["reviewer", "clinic"]


def test_a_thumbnail_is_drawn_once_and_audited_whenever_it_is_sent(
    clinic_visitor, reviewer_visitor, analysed, fetched, rows
):
    answers = [visitor.get(f"/cases/{analysed}/thumbnail") for visitor in (clinic_visitor, reviewer_visitor)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].data == answers[1].data
    assert len(fetched) == 1
    assert [row.role for row in rows("audit_events") if row.action == "image.read"] == ["clinic", "reviewer"]


def test_a_thumbnail_that_was_drawn_is_sent_to_nobody_else_and_to_nobody_after_erasure(
    clinic_visitor, reviewer_visitor, sign_in, other_clinic, analysed
):
    address = f"/cases/{analysed}/thumbnail"
    sent = clinic_visitor.get(address)
    assert sign_in(other_clinic).get(address).status_code == 404
    clinic_visitor.post(f"/cases/{analysed}/erase")
    for visitor in (clinic_visitor, reviewer_visitor):
        for headers in ({}, {"If-None-Match": sent.headers["ETag"]}):
            assert visitor.get(address, headers=headers).status_code == 404


def test_a_thumbnail_that_was_refused_is_blank_until_there_is_time_to_draw_it(
    open_page, reviewer, analysed, services, rows, meant
):
    meant.append("status of 503")
    take_all(services.thumbnail_seats)
    page = open_page(reviewer)
    with page.expect_response(lambda answer: answer.status == 503):
        page.goto("/app/worklist")
    thumbnail = page.locator("img.thumbnail")
    expect(thumbnail).to_have_js_property("complete", True)
    assert thumbnail.bounding_box()["width"] == 80
    assert "image.read" not in [row.action for row in rows("audit_events")]
    services.thumbnail_seats.release()
    expect(thumbnail).not_to_have_js_property("naturalWidth", 0, timeout=20_000)
