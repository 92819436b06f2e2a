"""How much of what clinics send is in memory, on the disk and open at a time."""

import hashlib
import io
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock
from zipfile import ZipFile

import pytest
from flask import Flask, request
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from tests.api.calls import JPEG, Clinic, File, read_problem, record_result, take_all
from tests.api.conftest import services_of
from tests.api.ways_in import filled, open_upload, send_many, submit_upload
from tests.archives import GOOD, zipped

SEATS, THREADS = 2, 4
FILES = {f"{number}.jpg": bytes([number]) * 30_000 for number in range(60)}

# What is bounded here knows nothing of the database.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

WAYS: dict[str, Callable[[Clinic], TestResponse]] = {
    "in a form": lambda clinic: clinic.submit(),
    "through an upload": lambda clinic: submit_upload(clinic, filled(clinic)),
    "in a submission": lambda clinic: send_many(clinic, [File()]),
}


@pytest.mark.parametrize("way", WAYS)
def test_only_so_many_photographs_are_in_memory(open_app, clinic, monkeypatch, way):
    app = open_app(photographs_in_memory=SEATS)
    store, lock, together = services_of(app).store, Lock(), Barrier(SEATS, timeout=60)
    put, at_a_time, most = store.put, 0, 0

    def counted_put(*arguments) -> None:
        nonlocal at_a_time, most
        with lock:
            at_a_time += 1
            most = max(most, at_a_time)
        together.wait()  # so many are let in, and get here
        put(*arguments)
        with lock:
            at_a_time -= 1

    monkeypatch.setattr(store, "put", counted_put)
    clinics = [Clinic(app.test_client(), clinic.key, clinic.id) for _ in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(WAYS[way], clinics))
    assert {answer.status_code for answer in answers} == {202}
    assert most == SEATS


@pytest.mark.parametrize("way", WAYS)
def test_who_finds_no_seat_is_told_to_come_back(clinic, services, monkeypatch, rows, stored_keys, rung, way):
    monkeypatch.setattr("api.services._SEAT_TIMEOUT_S", 0.01)
    take_all(services.photograph_seats)
    answer = WAYS[way](clinic)
    assert read_problem(answer, 503)["code"] == "intake_busy"
    assert int(answer.headers["Retry-After"]) > 0
    assert (rows("cases", "audit_events"), stored_keys(clinic), rung()) == ([], [], 0)
    services.photograph_seats.release()
    assert WAYS[way](clinic).status_code == 202


@pytest.mark.parametrize("look", ["heatmap?class=nevus", "report"])
def test_who_finds_no_seat_to_look_at_a_photograph_is_told_to_come_back(
    clinic, services, database, store, monkeypatch, look
):
    case_id = clinic.submit().json["id"]
    record_result(database, store, case_id)
    monkeypatch.setattr("api.services._SEAT_TIMEOUT_S", 0.01)
    take_all(services.picture_seats)
    answer = clinic.get(f"/v1/cases/{case_id}/{look}")
    assert read_problem(answer, 503)["code"] == "pictures_busy"
    assert int(answer.headers["Retry-After"]) > 0
    services.picture_seats.release()
    assert clinic.get(f"/v1/cases/{case_id}/{look}").status_code == 200


def test_a_quarter_of_the_threads_is_left_while_thumbnails_are_drawn(open_app):
    services = services_of(open_app(api_threads=16, photographs_in_memory=4))
    assert sum(iter(lambda: services.thumbnail_seats.acquire(blocking=False), False)) == 12


def test_a_submission_that_finds_no_seat_is_refused_before_it_is_received(clinic, services, rows):
    take_all(services.submission_seats)
    before = rows()
    refused = clinic.submit_body(b"never read", "multipart/form-data; boundary=b", address="/v1/submissions")
    assert read_problem(refused, 503)["code"] == "intake_busy"
    assert rows() == before
    services.submission_seats.release()
    assert send_many(clinic, [File()]).status_code == 202


def test_a_seat_is_given_back_whatever_happens(open_app, clinic, monkeypatch):
    app = open_app(photographs_in_memory=1, api_threads=2)
    narrow = Clinic(app.test_client(), clinic.key, clinic.id)
    monkeypatch.setattr("api.services._SEAT_TIMEOUT_S", 0.01)
    for _ in range(2):
        read_problem(narrow.submit(b"no photograph"), 415)
        read_problem(submit_upload(narrow, open_upload(narrow)["upload_id"]), 409)
        read_problem(narrow.submit_form({"archive": File()}, address="/v1/submissions"), 400)
        assert send_many(narrow, [File(b"no photograph")]).json["counts"]["refused"] == 1
    assert narrow.submit().status_code == 202


@pytest.fixture
def received(app: Flask) -> Iterator[list[FileStorage]]:
    """The files of a form as a view finds them."""
    files = [FileStorage(io.BytesIO(data), name) for name, data in FILES.items()]
    boundary, body = encode_multipart({"image": files})
    content_type = f"multipart/form-data; boundary={boundary}"
    with app.test_request_context(method="POST", data=body, content_type=content_type):
        yield request.files.getlist("image")


def test_all_files_of_a_form_lie_in_one(app, request):
    before = set(os.listdir("/proc/self/fd"))
    received = request.getfixturevalue("received")
    assert len(received) == len(FILES)
    assert len(set(os.listdir("/proc/self/fd")) - before) == 1
    for file in reversed(received):  # in another order than they came in
        data = FILES[file.filename]
        assert file.read(7) == data[:7]
        assert file.read() == data[7:]
        assert file.read() == b""
        assert file.seek(-10, io.SEEK_END) == len(data) - 10
        assert file.read(100) == data[-10:]
        file.seek(0)
        assert hashlib.file_digest(file, "sha256").digest() == hashlib.sha256(data).digest()


def test_a_file_of_a_form_ends_where_it_ends(received):
    first = received[0].stream
    with pytest.raises(OSError, match="before the beginning"):
        first.seek(-1)
    first.seek(10**9)
    assert first.read(1) == b""


def test_the_file_is_closed_with_the_request(app):
    boundary, body = encode_multipart({"image": FileStorage(io.BytesIO(bytes(10**6)), "a.jpg")})
    before = os.listdir("/proc/self/fd")
    with app.test_request_context(method="POST", data=body, content_type=f"multipart/form-data; boundary={boundary}"):
        stream = request.files["image"].stream
    assert os.listdir("/proc/self/fd") == before
    with pytest.raises(ValueError, match="closed"):
        stream.read()


@pytest.mark.parametrize("size_bytes", [len(JPEG), 100], ids=["large", "within Python's buffer"])
def test_a_form_for_which_the_disk_has_no_room_is_to_be_sent_again(clinic, rows, full_disk, size_bytes):
    before = rows()
    for refused in (clinic.submit(JPEG[:size_bytes]), send_many(clinic, [File(JPEG[:size_bytes])])):
        assert read_problem(refused, 503)["code"] == "storage_unavailable"
    assert rows() == before


def test_an_archive_is_read_where_it_lies_between_other_files(app):
    files = [FileStorage(io.BytesIO(data), "f") for data in (JPEG * 30, zipped(GOOD), JPEG)]
    boundary, body = encode_multipart({"image": files})
    with app.test_request_context(method="POST", data=body, content_type=f"multipart/form-data; boundary={boundary}"):
        archive = ZipFile(request.files.getlist("image")[1].stream)
        assert {name: archive.read(name) for name in archive.namelist()} == GOOD
