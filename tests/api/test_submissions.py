"""Many photographs at once: the good ones become cases, the others are told why not, and sending again doubles none."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock
from uuid import UUID, uuid4

import pytest

from shared.errors import Unavailable
from shared.store import submissions
from tests import images
from tests.api.calls import JPEG, Api, Clinic, File, read_problem
from tests.api.ways_in import codes, send_archive, send_by, send_many, send_submission
from tests.archives import zipped
from tests.factories import add_case

PNG = images.encode(images.lesion(), "PNG")
THREE = [File(JPEG, "a.jpg"), File(PNG, "b.png"), File(JPEG, "c.jpg")]
PNG_HALVES = PNG.partition(b"\0")
SAME_KEY = {"Idempotency-Key": "submission-1"}
NO_COUNTS = dict.fromkeys(("queued", "running", "succeeded", "rejected", "failed", "cancelled", "refused", "total"), 0)
WAYS = ["images", "archive"]
THREADS = 4


@pytest.fixture
def breaks_off(services, monkeypatch) -> Callable[[int, Exception], None]:
    """Let the object store take so many photographs more, and then fail once."""

    def arrange(taken: int, failure: Exception) -> None:
        put, failures = services.store.put, iter([None] * taken + [failure])

        def put_or_fail(*arguments) -> None:
            if error := next(failures, None):
                raise error
            put(*arguments)

        monkeypatch.setattr(services.store, "put", put_or_fail)

    return arrange


@pytest.mark.parametrize("way", WAYS)
def test_every_photograph_becomes_a_case_with_its_files_name_for_a_reference(clinic, way, rung, rows):
    answer = send_by(way, clinic, THREE, priority="urgent")
    assert answer.status_code == 202
    assert answer.json["state"] == "complete"
    assert answer.json["counts"] == NO_COUNTS | {"queued": 3, "total": 3}
    assert answer.headers["Location"] == answer.json["links"]["self"] == f"/v1/submissions/{answer.json['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert clinic.get(answer.headers["Location"]).json == answer.json
    for position, (item, file) in enumerate(zip(answer.json["items"], THREE, strict=True), start=1):
        case = clinic.get(f"/v1/cases/{item['case_id']}").json
        assert item == {
            "position": position,
            "name": file.name,
            "case_id": case["id"],
            "state": "queued",
            "error": None,
        }
        assert (case["reference"], case["priority"]) == (file.name, "urgent")
        assert case["image"]["size_bytes"] == len(file.data)
    assert [line.action for line in rows("audit_events")] == ["case.submitted"] * 3
    assert 1 <= rung() <= 3


def test_an_archive_without_a_file_name_is_taken_like_any_other(clinic):
    part = b'--b\r\nContent-Disposition: form-data; name="archive"; filename=""\r\n\r\n'
    body = part + zipped({file.name: file.data for file in THREE}) + b"\r\n--b--\r\n"
    answer = clinic.submit_body(body, "multipart/form-data; boundary=b", address="/v1/submissions")
    assert codes(answer) == [None] * 3


@pytest.mark.parametrize("way", WAYS)
def test_only_stripped_photographs_reach_the_object_store(clinic, way, store, stored_keys):
    send_by(way, clinic, THREE)
    assert len(stored_keys(clinic)) == 3
    assert all(images.SECRET not in store.get(key) for key in stored_keys(clinic))


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("way", WAYS)
def test_the_good_ones_go_on_and_each_bad_one_is_told_why_not(open_app, clinic, way, rows, stored_keys):
    small = Api(open_app(max_upload_bytes=300_000).test_client(), clinic.key)
    bad = {name: (data, code) for name, (data, code) in images.refused_at_intake().items() if len(data) <= 300_000}
    too_large = File(images.png_bomb(), "too large")
    answer = send_by(
        way, small, [*THREE[:1], *(File(data, name) for name, (data, _) in bad.items()), too_large, *THREE[1:]]
    )
    assert codes(answer) == [None, *(code for _, code in bad.values()), "upload_too_large", None, None]
    assert answer.json["counts"] == NO_COUNTS | {"queued": 3, "refused": len(bad) + 1, "total": len(bad) + 4}
    refused = [item for item in answer.json["items"] if item["error"]]
    assert {(item["case_id"], item["state"]) for item in refused} == {(None, "refused")}
    assert all(item["error"]["detail"].endswith(".") for item in refused)
    assert [row.reference for row in sorted(rows("cases"), key=lambda row: row.submitted_at)] == [
        "a.jpg",
        "b.png",
        "c.jpg",
    ]
    assert len(stored_keys(clinic)) == 3


def test_a_submission_shows_what_became_of_its_cases(clinic, succeed, rows):
    sent = send_many(clinic, [*THREE, File(b"", "d.jpg")]).json
    first, second, third = (item["case_id"] for item in sent["items"][:3])
    succeed(first)
    clinic.call("POST", f"/v1/cases/{second}/cancel")
    answer = clinic.get(sent["links"]["self"])
    assert answer.json["counts"] == NO_COUNTS | {"succeeded": 1, "cancelled": 1, "queued": 1, "refused": 1, "total": 4}
    assert "Retry-After" in answer.headers
    clinic.call("DELETE", f"/v1/cases/{third}")
    answer = clinic.get(sent["links"]["self"])
    assert [item["state"] for item in answer.json["items"]] == ["succeeded", "cancelled", "refused"]
    assert answer.json["counts"]["total"] == 3
    assert "Retry-After" not in answer.headers
    assert "c.jpg" not in {row.name for row in rows("submission_items")}


def test_another_clinics_submission_looks_exactly_like_none(clinic, other_clinic):
    address = send_many(clinic, THREE).headers["Location"]
    theirs, nobodys, malformed = (
        other_clinic.get(place) for place in (address, f"/v1/submissions/{uuid4()}", "/v1/submissions/7")
    )
    assert read_problem(theirs, 404)["code"] == "submission_not_found"
    assert (theirs.data, theirs.data) == (nobodys.data, malformed.data)


@pytest.mark.parametrize("way", WAYS)
def test_the_same_request_with_the_same_key_is_one_submission(clinic, way, rows, stored_keys, rung):
    first, again = (send_by(way, clinic, [*THREE, File(b"", "d.jpg")], SAME_KEY) for _ in range(2))
    assert first.json == again.json
    assert first.headers["Location"] == again.headers["Location"]
    assert len(rows("cases")) == len(rows("audit_events")) == len(stored_keys(clinic)) == 3
    assert 1 <= rung() <= 3


def test_what_was_taken_in_is_not_even_stored_again(clinic, open_app, nowhere):
    first = send_many(clinic, THREE, SAME_KEY)
    distant = Api(open_app(s3_endpoint_url=f"http://{nowhere}").test_client(), clinic.key)
    assert send_many(distant, THREE, SAME_KEY).json == first.json


def test_without_a_key_the_same_photographs_are_two_submissions(clinic, rows):
    first, again = (send_many(clinic, THREE).json["id"] for _ in range(2))
    assert first != again
    assert len(rows("cases")) == 6


def test_two_clinics_may_use_the_same_key(clinic, other_clinic):
    assert send_many(clinic, THREE, SAME_KEY).json["id"] != send_many(other_clinic, THREE, SAME_KEY).json["id"]


@pytest.mark.parametrize(
    ("other", "fields"),
    [
        (THREE[:2], {}),
        (THREE[::-1], {}),
        ([*THREE[:2], File(PNG, "c.jpg")], {}),
        ([*THREE[:2], File(JPEG, "d.jpg")], {}),
        ([File(JPEG + b"\0" + PNG_HALVES[0], "a.jpg"), File(PNG_HALVES[2], "b.png"), THREE[2]], {}),
        (THREE, {"priority": "urgent"}),
    ],
    ids=["fewer", "another order", "another photograph", "another name", "another border", "another priority"],
)
def test_the_same_key_with_another_request_is_refused(clinic, other, fields, rows, stored_keys):
    send_many(clinic, THREE, SAME_KEY)
    before = rows(), stored_keys(clinic)
    assert read_problem(send_many(clinic, other, SAME_KEY, **fields), 422)["code"] == "idempotency_key_reused"
    assert (rows(), stored_keys(clinic)) == before


@pytest.mark.parametrize("headers", [SAME_KEY, None], ids=["with a key", "without"])
@pytest.mark.parametrize(
    ("failure", "status"), [(Unavailable("storage_unavailable", "Away."), 503), (RuntimeError("died"), 500)]
)
def test_a_request_that_broke_off_goes_on_where_it_stopped(
    clinic, breaks_off, rows, stored_keys, headers, failure, status
):
    files = [File(b"", "bad.jpg"), *THREE]
    breaks_off(2, failure)
    read_problem(send_many(clinic, files, headers), status)
    (begun,) = rows("submissions")
    unfinished = clinic.get(f"/v1/submissions/{begun.id}").json
    assert unfinished["state"] == "incomplete"
    assert unfinished["counts"] == NO_COUNTS | {"queued": 2, "refused": 1, "total": 3}
    answer = send_many(clinic, files, headers)
    assert (answer.status_code, answer.json["id"]) == (202, str(begun.id))
    assert answer.json["items"][:3] == unfinished["items"]
    assert answer.json["counts"] == NO_COUNTS | {"queued": 3, "refused": 1, "total": 4}
    assert len(rows("cases")) == len(stored_keys(clinic)) == 3


@pytest.mark.parametrize("headers", [{}, SAME_KEY], ids=["no key", "key"])
@pytest.mark.parametrize("taken", [1, 2])
def test_a_photograph_whose_case_was_deleted_meanwhile_does_not_come_back(clinic, breaks_off, rows, taken, headers):
    breaks_off(taken, Unavailable("storage_unavailable", "Away."))
    read_problem(send_many(clinic, THREE, headers), 503)
    clinic.call("DELETE", f"/v1/cases/{rows('cases')[0].id}")
    send_many(clinic, THREE, headers)
    assert len(rows("cases")) == 3


def test_a_submission_all_of_whose_cases_were_deleted_before_its_end_keeps_no_digest(clinic, rows, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(submissions, "finish_submission", Mock(side_effect=RuntimeError("died")))
        read_problem(send_many(clinic, THREE, SAME_KEY), 500)
    for case in rows("cases"):
        clinic.call("DELETE", f"/v1/cases/{case.id}")
    assert rows("submissions")[0].idempotency_key == SAME_KEY["Idempotency-Key"]
    send_many(clinic, THREE, SAME_KEY)
    (submission,) = rows("submissions")
    assert (submission.request_sha256, submission.idempotency_key) == ("", None)
    assert len(rows("cases")) == 3


def test_the_same_request_many_times_at_once_doubles_nothing(clinic, app, rows, stored_keys):
    files = [*THREE, File(b"", "d.jpg")]
    apis = [Api(app.test_client(), clinic.key) for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda api: send_many(api, files, SAME_KEY), apis))
    assert [answer.status_code for answer in answers] == [202] * THREADS
    assert [answer.json for answer in answers] == [answers[0].json] * THREADS
    assert len(rows("cases")) == len(stored_keys(clinic)) == 3
    assert [row.position for row in rows("submission_items")] == [1, 2, 3, 4]


def test_there_must_be_room_for_all_of_them(open_app, clinic, rows, stored_keys):
    narrow = Api(open_app(clinic_waiting_limit=3).test_client(), clinic.key)
    assert send_many(narrow, THREE[:1]).status_code == 202
    before = rows("submissions", "submission_items", "cases"), stored_keys(clinic)
    assert read_problem(send_many(narrow, THREE), 429)["code"] == "quota_exceeded"
    assert (rows("submissions", "submission_items", "cases"), stored_keys(clinic)) == before
    assert send_many(narrow, THREE[:2], SAME_KEY).status_code == 202
    assert send_many(narrow, THREE[:2], SAME_KEY).status_code == 202  # nothing more is wanted
    assert read_problem(send_many(narrow, THREE), 429)["code"] == "quota_exceeded"


def test_there_must_be_room_for_all_of_them_in_the_whole_backlog_too(
    open_app, clinic, other_clinic, database, rows, stored_keys
):
    add_case(database, other_clinic.id)
    narrow, before = Api(open_app(backlog_limit=3).test_client(), clinic.key), rows()
    assert read_problem(send_many(narrow, THREE), 503)["code"] == "backlog_full"
    assert (rows(), stored_keys(clinic)) == (before, [])
    assert send_many(narrow, THREE[:2]).status_code == 202


@pytest.mark.parametrize("limit", ["clinic_waiting_limit", "backlog_limit"])
def test_more_than_could_ever_wait_is_not_to_be_sent_again(open_app, clinic, rows, stored_keys, limit):
    narrow = Api(open_app(**{limit: 2}).test_client(), clinic.key)
    problem = read_problem(send_many(narrow, THREE), 413)
    assert problem["code"] == "submission_too_large"
    assert "At most 2 of your cases" in problem["detail"]
    assert (rows("submissions", "submission_items", "cases"), stored_keys(clinic)) == ([], [])


def test_a_request_that_goes_on_needs_room_only_for_the_rest(clinic, open_app, breaks_off, rows):
    breaks_off(2, Unavailable("storage_unavailable", "Away."))
    read_problem(send_many(clinic, THREE, SAME_KEY), 503)
    narrow = Api(open_app(clinic_waiting_limit=3).test_client(), clinic.key)
    assert send_many(narrow, THREE, SAME_KEY).status_code == 202
    assert len(rows("cases")) == 3


@pytest.fixture
def unchanged(rows, stored_keys) -> Callable[[Clinic], tuple]:
    """Return all that a request can change."""
    return lambda clinic: (rows(), stored_keys(clinic))


BAD_REQUESTS = {
    "nothing": ({"priority": "urgent"}, 400, "image_missing", "'archive'"),
    "file under another name": ({"photo": File()}, 400, "image_missing", "'image'"),
    "photographs and an archive": ({"image": File(), "archive": File()}, 400, "image_missing", "or a zip"),
    "image as text": ({"image": "x"}, 400, "image_missing", "text field"),
    "archive as text": ({"archive": "x"}, 400, "image_missing", "text field"),
    "one image as text": ({"image": [File(), "x"]}, 400, "image_missing", "text field"),
    "two archives": ({"archive": [File(), File()]}, 400, "field_repeated", "'archive'"),
    "two priorities": ({"image": File(), "priority": ["urgent"] * 2}, 400, "field_repeated", "'priority'"),
    "unknown field": ({"image": File(), "reference": "x"}, 400, "field_unknown", "'reference'"),
    "priority": ({"image": File(), "priority": "stat"}, 400, "field_invalid", "'urgent' or 'routine'"),
    "501 photographs": ({"image": [File(b"x")] * 501}, 413, "submission_too_large", "500"),
    "600 fields": ({"x": ["y"] * 600}, 413, "submission_too_large", "500"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_told_what_is_wrong_and_changes_nothing(clinic, unchanged, name):
    fields, status, code, says = BAD_REQUESTS[name]
    before = unchanged(clinic)
    problem = read_problem(send_submission(clinic, **fields), status)
    assert problem["code"] == code
    assert says in problem["detail"]
    assert unchanged(clinic) == before


def test_json_is_no_way_to_send_photographs(clinic):
    answer = clinic.call("POST", "/v1/submissions", json={})
    assert read_problem(answer, 415)["code"] == "content_type_unsupported"


def test_a_body_over_the_limit_is_refused_before_it_is_read(clinic, unchanged, monkeypatch):
    monkeypatch.setattr("api.submissions.MAX_BYTES", 100_000)
    before = unchanged(clinic)
    assert read_problem(send_many(clinic, [*THREE] * 2), 413)["code"] == "submission_too_large"
    assert unchanged(clinic) == before


def test_a_submission_may_be_larger_than_one_photograph(open_app, clinic):
    narrow = Api(open_app(max_upload_bytes=len(PNG)).test_client(), clinic.key)
    assert codes(send_many(narrow, [File(PNG, f"{n}.png") for n in range(5)])) == [None] * 5


def test_a_name_that_cannot_be_a_reference_is_refused_and_shown_as_far_as_it_can_be(clinic):
    answer = send_archive(clinic, zipped({"a.jpg": JPEG, "b\x07.jpg": JPEG, "c" * 300 + ".jpg": JPEG}))
    assert codes(answer) == [None, "name_unreadable", None]
    assert [item["name"] for item in answer.json["items"]] == ["a.jpg", "b\ufffd.jpg", "c" * 200]
    case = clinic.get(f"/v1/cases/{answer.json['items'][2]['case_id']}").json
    assert case["reference"] == "c" * 200


def test_a_photograph_without_a_name_has_no_reference(clinic):
    (item,) = send_many(clinic, [File(JPEG, "")]).json["items"]
    assert clinic.get(f"/v1/cases/{UUID(item['case_id'])}").json["reference"] is None
