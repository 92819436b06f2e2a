"""A photograph goes straight to the object store: what is made of it, and what is checked again."""

import base64
import hashlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import update

from api.photo_metadata import strip_metadata
from shared.object_keys import photograph_key, upload_key
from shared.store import uploads
from shared.tables import UploadRow
from tests import images
from tests.api.calls import JPEG, Api, read_problem
from tests.api.ways_in import filled, open_upload, send_form, submit_upload

THREADS = 4
SAME_KEY = {"Idempotency-Key": "upload-1"}
PNG = images.encode(images.lesion(), "PNG")


@pytest.fixture
def expire(database) -> Callable[[str, timedelta], None]:
    """Let an upload's time have been over for so long."""

    def forge(upload_id: str, since: timedelta) -> None:
        with database.writing() as session:
            expired = update(UploadRow).where(UploadRow.id == UUID(upload_id))
            session.execute(expired.values(expires_at=datetime.now(UTC) - since))

    return forge


def test_the_answer_says_where_and_until_when_the_photograph_can_be_sent(clinic, settings):
    place = open_upload(clinic)
    assert list(place) == ["upload_id", "url", "fields", "expires_at", "max_bytes"]
    assert place["url"] == f"{settings.s3_endpoint_url}/{settings.s3_bucket}"
    assert place["fields"]["key"] == upload_key(clinic.id, UUID(place["upload_id"]))
    assert place["fields"]["Content-Type"] == "image/jpeg"
    assert place["max_bytes"] == settings.max_upload_bytes
    left = datetime.fromisoformat(place["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=14) < left < timedelta(minutes=16)
    policy = json.loads(base64.b64decode(place["fields"]["policy"]))
    assert abs(datetime.fromisoformat(policy["expiration"]) - datetime.fromisoformat(place["expires_at"])).seconds < 60


def test_what_was_sent_becomes_the_same_case_as_in_a_form(clinic, rows):
    fields = {"reference": "mole 3", "priority": "urgent", "sex": "female", "site": "left calf"}
    in_a_form = clinic.submit(**fields, age="54").json
    answer = submit_upload(clinic, filled(clinic), **fields, age=54)
    assert answer.status_code == 202
    assert answer.headers["Location"] == answer.json["links"]["self"] == f"/v1/cases/{answer.json['id']}"
    own = {"id", "submitted_at", "links"}
    assert {name: answer.json[name] for name in answer.json.keys() - own} == {
        name: in_a_form[name] for name in in_a_form.keys() - own
    }
    assert [line.action for line in rows("audit_events")] == ["case.submitted"] * 2


def test_only_the_stripped_photograph_is_left_and_the_upload_is_tied_to_its_case(
    clinic, store, stored_keys, lies_there, rows, rung
):
    upload_id = filled(clinic)
    assert lies_there(clinic) == [upload_key(clinic.id, UUID(upload_id))]
    case_id = submit_upload(clinic, upload_id).json["id"]
    stripped = strip_metadata(JPEG, "image/jpeg")
    assert images.SECRET not in stripped
    key = photograph_key(clinic.id, UUID(case_id), hashlib.sha256(stripped).hexdigest(), "image/jpeg")
    assert (stored_keys(clinic), lies_there(clinic)) == ([key], [])
    assert store.get(key) == stripped
    assert [(str(row.id), str(row.case_id)) for row in rows("uploads")] == [(upload_id, case_id)]
    assert rung() == 1


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", sorted(images.refused_at_intake().keys() - {"nothing"}))
def test_the_store_looks_at_no_content_so_we_do(clinic, stored_keys, rows, name):
    data, code = images.refused_at_intake()[name]
    upload_id = filled(clinic, data)
    problem = read_problem(submit_upload(clinic, upload_id), 415 if code == "image_type_unsupported" else 422)
    assert problem["code"] == code
    assert (stored_keys(clinic), rows("cases", "audit_events")) == ([], [])


def test_a_photograph_is_what_it_is_and_not_what_was_announced(clinic):
    assert submit_upload(clinic, filled(clinic, PNG)).json["image"]["media_type"] == "image/png"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_size_is_checked_again_since_another_store_may_not_have_looked(open_app, clinic, s3, servers, rows):
    strict = Api(open_app(max_upload_bytes=len(JPEG)).test_client(), clinic.key)
    place = open_upload(strict)
    s3.put_object(Bucket=servers["s3_bucket"], Key=place["fields"]["key"], Body=JPEG + b"\0")
    assert read_problem(submit_upload(strict, place["upload_id"]), 413)["code"] == "upload_too_large"
    assert rows("cases") == []
    assert send_form(place).status_code == 204
    assert submit_upload(strict, place["upload_id"]).status_code == 202


def test_what_is_not_what_was_announced_is_refused_and_can_be_sent_again(clinic, rows):
    place = open_upload(clinic, sha256=hashlib.sha256(JPEG).hexdigest().upper())
    send_form(place, PNG)
    assert read_problem(submit_upload(clinic, place["upload_id"]), 422)["code"] == "upload_digest_mismatch"
    assert rows("cases") == []
    send_form(place)
    assert submit_upload(clinic, place["upload_id"]).json["image"]["sha256"] == hashlib.sha256(JPEG).hexdigest()


def test_before_anything_was_sent_there_is_nothing_to_make_a_case_of(clinic, rows):
    upload_id = open_upload(clinic)["upload_id"]
    assert read_problem(submit_upload(clinic, upload_id), 409)["code"] == "upload_empty"
    assert rows("cases") == []


def test_an_upload_that_is_unknown_foreign_or_over_looks_the_same(clinic, other_clinic, expire, rows):
    foreign, old = filled(other_clinic), filled(clinic)
    expire(old, timedelta(hours=2))
    problems = [read_problem(submit_upload(clinic, upload_id), 404) for upload_id in (str(uuid4()), foreign, old)]
    assert problems[0]["code"] == "upload_not_found"
    assert problems == [problems[0]] * 3
    assert rows("cases") == []


def test_what_arrived_late_can_still_be_used_for_a_while(clinic, expire):
    upload_id = filled(clinic)
    expire(upload_id, timedelta(minutes=30))
    assert submit_upload(clinic, upload_id).status_code == 202


def test_one_upload_is_one_case(clinic, rows, stored_keys, lies_there):
    upload_id = filled(clinic)
    assert submit_upload(clinic, upload_id).status_code == 202
    assert read_problem(submit_upload(clinic, upload_id), 409)["code"] == "upload_used"
    assert read_problem(submit_upload(clinic, upload_id, SAME_KEY), 409)["code"] == "upload_used"
    assert (len(rows("cases")), len(stored_keys(clinic)), lies_there(clinic)) == (1, 1, [])


def test_the_same_key_gives_the_same_case_although_the_upload_is_used(clinic, rows, rung):
    upload_id = filled(clinic)
    first, again = (submit_upload(clinic, upload_id, SAME_KEY, age=54) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json == again.json
    assert len(rows("cases")) == len(rows("audit_events")) == rung() == 1


def test_the_same_key_with_another_request_is_refused(clinic, rows):
    upload_id = filled(clinic)
    submit_upload(clinic, upload_id, SAME_KEY, age=54)
    for other in (
        submit_upload(clinic, upload_id, SAME_KEY, age=55),
        submit_upload(clinic, filled(clinic), SAME_KEY, age=54),
    ):
        assert read_problem(other, 422)["code"] == "idempotency_key_reused"
    assert read_problem(clinic.submit(headers=SAME_KEY, age="54"), 422)["code"] == "idempotency_key_reused"
    assert len(rows("cases")) == 1


@pytest.mark.parametrize("headers", [SAME_KEY, None], ids=["with a key", "without"])
def test_many_threads_make_one_case_of_one_upload_and_leave_nothing_behind(
    clinic, app, rows, stored_keys, lies_there, headers
):
    upload_id = filled(clinic)
    with ThreadPoolExecutor(THREADS) as pool:
        apis = [Api(app.test_client(), clinic.key) for _ in range(THREADS)]
        answers = list(pool.map(lambda api: submit_upload(api, upload_id, headers), apis))
    (row,) = rows("cases")
    taken = [answer for answer in answers if answer.status_code == 202]
    assert {answer.json["id"] for answer in taken} == {str(row.id)}
    assert len(taken) == (THREADS if headers else 1)
    assert {answer.status_code for answer in answers} <= {202, 409}
    assert (stored_keys(clinic), lies_there(clinic)) == ([row.photograph_key], [])


def test_a_request_that_is_overtaken_by_its_own_repetition_gives_the_same_case(clinic, app, services, monkeypatch):
    upload_id, fetch, overtaking = filled(clinic), services.store.get_up_to, []

    def fetch_too_late(*arguments) -> bytes:
        monkeypatch.setattr(services.store, "get_up_to", fetch)
        overtaking.append(submit_upload(Api(app.test_client(), clinic.key), upload_id, SAME_KEY))
        return fetch(*arguments)  # what lay there is gone

    monkeypatch.setattr(services.store, "get_up_to", fetch_too_late)
    overtaken = submit_upload(clinic, upload_id, SAME_KEY)
    assert (overtaken.status_code, overtaken.json) == (202, overtaking[0].json)


def test_an_upload_that_is_purged_while_its_case_is_made_is_not_found_and_leaves_nothing(
    clinic, services, database, monkeypatch, rows, stored_keys
):
    upload_id, put = filled(clinic), services.store.put

    def purge_and_put(*arguments) -> None:
        with database.writing() as session:
            uploads.forget_upload(session, UUID(upload_id))
        put(*arguments)

    monkeypatch.setattr(services.store, "put", purge_and_put)
    assert read_problem(submit_upload(clinic, upload_id), 404)["code"] == "upload_not_found"
    assert (rows("cases"), stored_keys(clinic)) == ([], [])


def test_open_uploads_count_as_waiting_cases(open_app, clinic, expire):
    narrow = Api(open_app(clinic_waiting_limit=2).test_client(), clinic.key)
    narrow.submit()
    upload_id = open_upload(narrow)["upload_id"]
    refused = narrow.call("POST", "/v1/uploads", json={"media_type": "image/jpeg"})
    assert read_problem(refused, 429)["code"] == "quota_exceeded"
    expire(upload_id, timedelta(seconds=1))
    assert open_upload(narrow)


def test_neither_anothers_uploads_count_nor_those_of_which_a_case_was_made(open_app, clinic, other_clinic):
    app = open_app(clinic_waiting_limit=2)
    narrow = Api(app.test_client(), clinic.key)
    for _ in range(2):
        open_upload(Api(app.test_client(), other_clinic.key))
    assert submit_upload(narrow, filled(narrow)).status_code == 202
    assert open_upload(narrow)


def test_without_the_object_store_the_upload_stays_for_later(open_app, clinic, nowhere, rows):
    upload_id = filled(clinic)
    distant = Api(open_app(s3_endpoint_url=f"http://{nowhere}").test_client(), clinic.key)
    assert read_problem(submit_upload(distant, upload_id), 503)["code"] == "storage_unavailable"
    assert rows("cases") == []
    assert submit_upload(clinic, upload_id).status_code == 202


BAD_REQUESTS = {
    "no media type": ("/v1/uploads", {}, 400, "field_missing", "'media_type'"),
    "HEIC": ("/v1/uploads", {"media_type": "image/heic"}, 400, "field_invalid", "'image/png'"),
    "short digest": ("/v1/uploads", {"media_type": "image/png", "sha256": "ab"}, 400, "field_invalid", "sha256"),
    "unknown field": ("/v1/uploads", {"media_type": "image/png", "size": 5}, 400, "field_unknown", "'size'"),
    "no upload": ("/v1/cases", {"age": 54}, 400, "field_missing", "'upload_id'"),
    "no id": ("/v1/cases", {"upload_id": "7"}, 400, "field_invalid", "upload_id"),
    "age as text": ("/v1/cases", {"upload_id": str(uuid4()), "age": "54"}, 400, "field_invalid", "valid integer"),
    "age above": ("/v1/cases", {"upload_id": str(uuid4()), "age": 121}, 400, "field_invalid", "120"),
    "NUL in site": ("/v1/cases", {"upload_id": str(uuid4()), "site": "\0"}, 400, "field_invalid", "control"),
    "image in JSON": ("/v1/cases", {"upload_id": str(uuid4()), "image": ""}, 400, "field_unknown", "'image'"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_a_bad_request_is_told_what_is_wrong_and_changes_nothing(clinic, rows, name):
    address, body, status, code, says = BAD_REQUESTS[name]
    before = rows()
    problem = read_problem(clinic.call("POST", address, json=body), status)
    assert problem["code"] == code
    assert says in problem["detail"]
    assert rows() == before


def test_a_form_is_no_way_to_ask_for_an_upload(clinic):
    answer = clinic.call("POST", "/v1/uploads", data={"media_type": "image/png"})
    assert read_problem(answer, 415)["code"] == "content_type_unsupported"
    assert "application/json" in answer.json["detail"]
