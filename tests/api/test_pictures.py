"""The photograph and the heatmaps: what comes back, drawn how, for whom, and with what trace."""

import io
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import update

from shared.tables import ModelRow
from tests import images
from tests.api.calls import JPEG, MANIFEST, MAPS, STORED_OVERLAY, read_problem

CLASSES = ("melanoma", "seborrheic_keratosis", "nevus")
HOT_CORNERS = {"melanoma": (0, 0), "seborrheic_keratosis": (-1, 0), "nevus": (-1, -1)}
"""Where on the picture the maps of `calls.MAPS` are hot: x and y, 0 for the first pixel and -1 for the last."""

PNG = images.encode(images.lesion(), "PNG")


@pytest.fixture
def case(clinic, succeed) -> str:
    """The address of a case that has a result; its photograph is upright and without loss."""
    answer = clinic.submit(PNG)
    succeed(answer.json["id"])
    return answer.headers["Location"]


def pixels(data: bytes) -> np.ndarray:
    """Return a PNG's pixels as integers that can be subtracted: (height, width, 3)."""
    image = Image.open(io.BytesIO(data))
    assert (image.format, image.mode) == ("PNG", "RGB")
    return np.asarray(image).astype(int)


def test_the_photograph_comes_back_as_it_was_stored_and_tells_no_place(clinic, store, stored_keys):
    address = clinic.submit(JPEG).headers["Location"]
    answer = clinic.get(f"{address}/image")
    assert (answer.status_code, answer.mimetype) == (200, "image/jpeg")
    (key,) = stored_keys(clinic)
    assert answer.data == store.get(key)
    assert images.GPS_RATIONALS in JPEG
    assert images.GPS_RATIONALS not in answer.data
    assert images.SECRET not in answer.data


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_a_photograph_keeps_its_media_type(clinic, file_format):
    data = images.encode(images.lesion(), file_format)
    answer = clinic.get(f"{clinic.submit(data).headers['Location']}/image")
    assert (answer.mimetype, answer.data) == (f"image/{file_format.lower()}", data)


def test_the_workers_overlay_is_what_is_shown_unless_told_otherwise(clinic, case):
    for query in ("", "?style=overlay", "?class=melanoma", "?class=melanoma&style=overlay"):
        answer = clinic.get(f"{case}/heatmap{query}")
        assert (answer.status_code, answer.mimetype, answer.data) == (200, "image/png", STORED_OVERLAY)


@pytest.mark.parametrize("name", CLASSES)
def test_an_overlay_colours_the_corner_where_the_network_looked_and_no_other(
    clinic, case, name, s3, servers, stored_keys
):
    (overlay,) = [key for key in stored_keys(clinic) if "overlay-" in key]
    s3.delete_object(Bucket=servers["s3_bucket"], Key=overlay)  # melanoma's must be drawn again
    drawn = pixels(clinic.get(f"{case}/heatmap?class={name}").data)
    change = np.abs(drawn - pixels(PNG)).sum(axis=2)
    corners = {corner: change[corner[1], corner[0]] > 30 for corner in [(0, 0), (-1, 0), (0, -1), (-1, -1)]}
    assert corners == {corner: corner == HOT_CORNERS[name] for corner in corners}
    assert change[80:160, 100:220].max() == 0  # away from the heat, not one pixel is touched


@pytest.mark.parametrize("name", CLASSES)
def test_a_heatmap_alone_is_as_large_as_the_photograph_and_hot_in_the_right_corner(clinic, case, name):
    answer = clinic.get(f"{case}/heatmap?style=heatmap&class={name}")
    drawn = pixels(answer.data)
    assert drawn.shape == (240, 320, 3)
    x, y = HOT_CORNERS[name]
    cold = drawn[120, 160]
    assert cold.max() < 60  # Turbo begins almost black
    assert np.abs(drawn[y, x] - cold).sum() > 60
    assert np.abs(drawn[-1, 0] - cold).sum() < 10


def test_drawings_of_a_large_photograph_are_scaled_down(clinic, succeed):
    answer = clinic.submit(images.encode(images.lesion(1600, 800), "JPEG"))
    succeed(answer.json["id"])
    for style in ("overlay", "heatmap"):
        drawn = clinic.get(f"{answer.headers['Location']}/heatmap?class=nevus&style={style}")
        assert pixels(drawn.data).shape == (256, 512, 3)


def test_a_bundle_of_which_a_later_versions_worker_says_more_is_drawn_as_before(clinic, case, database):
    before = clinic.get(f"{case}/heatmap?style=heatmap")
    with database.writing() as session:
        session.execute(update(ModelRow).values(manifest=MANIFEST.model_dump(mode="json") | {"said_later": 1}))
    after = clinic.get(f"{case}/heatmap?style=heatmap")
    assert (after.status_code, after.data) == (200, before.data)


@pytest.mark.parametrize(("position", "name"), list(enumerate(CLASSES)))
def test_the_raw_map_is_the_stored_one_bit_for_bit(clinic, case, position, name):
    answer = clinic.get(f"{case}/heatmap?style=raw&class={name}")
    assert answer.mimetype == "application/octet-stream"
    raw = np.load(io.BytesIO(answer.data), allow_pickle=False)
    assert raw.dtype == np.float32
    np.testing.assert_array_equal(raw, MAPS[position])


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("class=benign", "field_invalid"),
        ("class=", "field_invalid"),
        ("style=jet", "field_invalid"),
        ("size=9", "field_unknown"),
        ("class_=nevus", "field_unknown"),
    ],
)
def test_a_heatmap_of_something_else_is_refused(clinic, case, query, code):
    assert read_problem(clinic.get(f"{case}/heatmap?{query}"), 400)["code"] == code


def test_before_the_result_there_is_a_photograph_and_no_heatmap(clinic):
    address = clinic.submit().headers["Location"]
    assert clinic.get(f"{address}/image").status_code == 200
    for query in ("", "?style=raw", "?class=nevus"):
        problem = read_problem(clinic.get(f"{address}/heatmap{query}"), 404)
        assert (problem["code"], "queued" in problem["detail"]) == ("heatmap_not_ready", True)


def test_a_photograph_that_the_store_lost_is_our_fault(clinic, case, s3, servers, stored_keys):
    (key,) = [key for key in stored_keys(clinic) if "overlay-" not in key]
    s3.delete_object(Bucket=servers["s3_bucket"], Key=key)
    assert read_problem(clinic.get(f"{case}/image"), 500)["code"] == "object_missing"
    assert clinic.get(f"{case}/heatmap").status_code == 200  # this one is still there


PATHS = ["/image", "/heatmap", "/heatmap?class=nevus", "/heatmap?style=heatmap", "/heatmap?style=raw"]


@pytest.mark.parametrize("path", PATHS)
def test_pictures_are_kept_by_no_cache(clinic, case, path):
    assert clinic.get(case + path).headers["Cache-Control"] == "private, no-store"


@pytest.mark.parametrize("path", PATHS)
def test_every_look_at_a_picture_is_on_record(clinic, reviewer, case, rows, path):
    before = rows("audit_events")
    for who in (clinic, reviewer):
        assert who.get(case + path).status_code == 200
    action = path.lstrip("/").partition("?")[0] + ".read"
    added = rows("audit_events")[len(before) :]
    assert [(line.action, line.role, line.clinic_id, f"/v1/cases/{line.case_id}") for line in added] == [
        (action, "clinic", clinic.id, case),
        (action, "reviewer", None, case),
    ]


@pytest.mark.parametrize("path", PATHS)
def test_another_clinic_finds_nothing_and_leaves_no_trace(other_clinic, case, rows, path):
    before = rows("audit_events")
    for address in (case, f"/v1/cases/{uuid4()}"):
        assert read_problem(other_clinic.get(address + path), 404)["code"] == "case_not_found"
    assert rows("audit_events") == before
