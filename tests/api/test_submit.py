"""A photograph comes in: what the clinic is answered, and what lies in SQL, in S3 and in the queue afterwards."""

import hashlib
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Barrier
from uuid import UUID

import pytest

from api.photo_metadata import strip_metadata
from api.services import EXTENSION
from shared.object_keys import photograph_key
from tests import images
from tests.api.calls import JPEG, Api, File, read_problem

THREADS = 8
SAME_KEY = {"Idempotency-Key": "upload-1"}


def test_a_photograph_is_taken_and_its_case_can_be_read_at_the_location(clinic):
    answer = clinic.submit()
    assert answer.status_code == 202
    assert answer.headers["Location"] == answer.json["links"]["self"] == f"/v1/cases/{answer.json['id']}"
    assert int(answer.headers["Retry-After"]) > 0
    assert clinic.get(answer.headers["Location"]).json == answer.json


def test_the_answer_has_the_documented_fields_and_no_other(clinic):
    case = clinic.submit(reference="mole 3", priority="urgent", age="54", sex="female", site="left calf").json
    case_id, submitted_at = case.pop("id"), datetime.fromisoformat(case.pop("submitted_at"))
    assert UUID(case_id).version == 4
    assert submitted_at.utcoffset().total_seconds() == 0
    address = f"/v1/cases/{case_id}"
    assert case == {
        "state": "queued",
        "reference": "mole 3",
        "priority": "urgent",
        "age": 54,
        "sex": "female",
        "site": "left calf",
        "finished_at": None,
        "image": {
            "width": 240,  # the camera lay on its side
            "height": 320,
            "media_type": "image/jpeg",
            "sha256": hashlib.sha256(JPEG).hexdigest(),
            "size_bytes": len(JPEG),
        },
        "result": None,
        "error": None,
        "links": {"self": address, "image": f"{address}/image", "heatmap": None},
    }


def test_what_is_known_of_the_lesion_may_be_left_out(clinic):
    case = clinic.submit().json
    assert [case[name] for name in ("reference", "age", "sex", "site")] == [None] * 4
    assert case["priority"] == "routine"


@pytest.mark.parametrize("reference", ["007", "123", "true", "null", "1e3", '{"a": 1}', " x ", "Läsion № 7 — 左"])
def test_a_reference_stays_as_it_was_written(clinic, reference):
    assert clinic.submit(reference=reference).json["reference"] == reference


def test_only_the_stripped_photograph_reaches_the_object_store(clinic, store, stored_keys):
    case = clinic.submit().json
    stripped = strip_metadata(JPEG, "image/jpeg")
    assert images.SECRET not in stripped
    key = photograph_key(clinic.id, UUID(case["id"]), hashlib.sha256(stripped).hexdigest(), "image/jpeg")
    assert stored_keys(clinic) == [key]
    assert store.get(key) == stripped


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", images.good_photographs())
def test_every_kind_of_photograph_is_taken(clinic, name):
    data, media_type = images.good_photographs()[name]
    answer = clinic.submit(data)
    assert answer.status_code == 202
    assert answer.json["image"]["media_type"] == media_type


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", images.refused_when_decoded())
def test_a_photograph_that_only_decoding_condemns_is_taken_and_left_to_a_worker(clinic, name):
    assert clinic.submit(images.refused_when_decoded()[name][0]).status_code == 202


def test_the_file_name_and_the_declared_type_do_not_matter(clinic):
    data = images.encode(images.lesion(), "PNG")
    answer = clinic.submit_form({"image": File(data, "../../etc/passwd.exe", "text/html")})
    assert answer.status_code == 202
    assert answer.json["image"]["media_type"] == "image/png"


def test_a_submission_rings_the_queue_once_and_leaves_one_line_in_the_audit_trail(clinic, rung, rows):
    case = clinic.submit().json
    assert rung() == 1
    (line,) = rows("audit_events")
    assert (line.action, line.clinic_id, str(line.case_id)) == ("case.submitted", clinic.id, case["id"])


def test_a_broker_that_is_away_delays_no_answer(open_app, clinic, nowhere, rows):
    distant = Api(open_app(broker_url=f"redis://{nowhere}/0").test_client(), clinic.key)
    began = time.monotonic()
    assert [distant.submit().status_code for _ in range(3)] == [202] * 3
    assert time.monotonic() - began < 5
    assert [row.state for row in rows("cases")] == ["queued"] * 3


def test_without_the_object_store_nothing_is_accepted(open_app, clinic, nowhere, rows, rung):
    distant = Api(open_app(s3_endpoint_url=f"http://{nowhere}").test_client(), clinic.key)
    answer = distant.submit()
    assert read_problem(answer, 503)["code"] == "storage_unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    assert rows("cases", "audit_events") == []
    assert rung() == 0


def test_without_the_database_nothing_is_accepted(open_app, clinic, dead_database_url, stored_keys):
    distant = Api(open_app(database_url=dead_database_url).test_client(), clinic.key)
    answer = distant.submit()
    assert read_problem(answer, 503)["code"] == "database_unavailable"
    assert int(answer.headers["Retry-After"]) > 0
    assert stored_keys(clinic) == []


def test_a_photograph_for_which_the_disk_has_no_room_is_a_transient_error(clinic, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))  # where large uploads lie until they are read
    assert read_problem(clinic.submit(bytes(1024 * 1024)), 503)["code"] == "storage_unavailable"


def test_the_same_request_with_the_same_key_is_one_case(clinic, rows, stored_keys, rung):
    first, again = (clinic.submit(headers=SAME_KEY, age="54") for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json == again.json
    assert first.headers["Location"] == again.headers["Location"]
    assert len(rows("cases")) == len(rows("audit_events")) == len(stored_keys(clinic)) == rung() == 1


def test_without_a_key_the_same_photograph_is_two_cases(clinic):
    assert clinic.submit().json["id"] != clinic.submit().json["id"]


def test_two_clinics_may_use_the_same_key(clinic, other_clinic):
    first, second = (who.submit(headers=SAME_KEY) for who in (clinic, other_clinic))
    assert (first.status_code, second.status_code) == (202, 202)
    assert first.json["id"] != second.json["id"]


@pytest.mark.parametrize("other", [{"image": images.encode(images.lesion(), "PNG")}, {"age": "55"}, {"reference": "x"}])
def test_the_same_key_with_another_request_is_refused(clinic, other, rows, stored_keys):
    clinic.submit(headers=SAME_KEY, age="54")
    before = rows(), stored_keys(clinic)
    answer = clinic.submit(headers=SAME_KEY, **({"age": "54"} | other))
    assert read_problem(answer, 422)["code"] == "idempotency_key_reused"
    assert (rows(), stored_keys(clinic)) == before


def test_many_threads_with_the_same_key_make_one_case_and_leave_nothing_behind(
    clinic, open_app, monkeypatch, rows, stored_keys
):
    app = open_app(photographs_in_memory=THREADS)
    store = app.extensions[EXTENSION].store
    all_have_stored, put = Barrier(THREADS, timeout=60), store.put

    def put_and_meet(*arguments) -> None:
        put(*arguments)
        all_have_stored.wait()  # so that every thread has looked for the key before any commits

    monkeypatch.setattr(store, "put", put_and_meet)
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(lambda _: Api(app.test_client(), clinic.key).submit(headers=SAME_KEY), range(THREADS)))
    assert {answer.status_code for answer in answers} == {202}
    (row,) = rows("cases")
    assert {answer.json["id"] for answer in answers} == {str(row.id)}
    assert stored_keys(clinic) == [row.photograph_key]


def test_a_case_is_accepted_once_the_stores_disk_has_its_photograph(
    clinic, open_app, monkeypatch, rows, stored_keys, tmp_path
):
    met = []

    def note(folder: Path) -> None:
        met.append((folder, len(stored_keys(clinic)), len(rows("cases"))))

    monkeypatch.setattr("api.intake.sync_disk_of", note)
    assert Api(open_app(s3_folder=tmp_path).test_client(), clinic.key).submit().status_code == 202
    assert met == [(tmp_path, 1, 0)]


def test_where_the_stores_disk_refuses_no_case_is_accepted(clinic, open_app, rows, tmp_path):
    answer = Api(open_app(s3_folder=tmp_path / "gone").test_client(), clinic.key).submit()
    assert read_problem(answer, 503)["code"] == "storage_unavailable"
    assert rows("cases") == []
