"""Whatever a client gets wrong has a stable code, a sentence that helps, and no effect."""

import base64
from collections.abc import Callable
from dataclasses import dataclass
from uuid import uuid4

import pytest
from werkzeug.test import TestResponse

from tests import images
from tests.api.calls import JPEG, Api, Clinic, File, read_problem

UNKNOWN_ADDRESS = f"/v1/cases/{uuid4()}"
FORM = "multipart/form-data; boundary=b"


@dataclass(frozen=True)
class Bad:
    """A request that is wrong, the status and code that it earns, and words that its sentence must hold."""

    send: Callable[[Clinic], TestResponse]
    status: int
    code: str
    says: str


def form_body(*parts: tuple[str, bytes]) -> bytes:
    """Return a multipart body as it goes over the wire; each part is what follows `name=` and its content."""
    return b"".join(
        f"--b\r\nContent-Disposition: form-data; name={name}\r\n\r\n".encode() + content + b"\r\n"
        for name, content in parts
    ) + (b"--b--\r\n")


def fields(says: str, code: str = "field_invalid", **values) -> Bad:
    return Bad(lambda clinic: clinic.submit(**values), 400, code, says)


def form(code: str, says: str, **data) -> Bad:
    """A form without the photograph that `submit` would add."""
    return Bad(lambda clinic: clinic.submit_form(data), 400, code, says)


def body(status: int, code: str, says: str, content: bytes, content_type: str | None) -> Bad:
    return Bad(lambda clinic: clinic.submit_body(content, content_type), status, code, says)


def key_header(value: str, says: str) -> Bad:
    return Bad(lambda clinic: clinic.submit(headers={"Idempotency-Key": value}), 400, "field_invalid", says)


def query(text: str, code: str, says: str) -> Bad:
    return Bad(lambda clinic: clinic.get(f"/v1/cases?{text}"), 400, code, says)


def cursor(text: str) -> Bad:
    forged = base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    return query(f"cursor={forged}", "cursor_malformed", "Follow the `next` link")


def authorization(value: str | None, code: str, says: str) -> Bad:
    headers = {} if value is None else {"Authorization": value}
    return Bad(lambda clinic: Api(clinic.client, None).submit(headers=headers), 401, code, says)


BAD_FILES = {
    name: Bad(
        lambda clinic, data=data: clinic.submit(data), 415 if code == "image_type_unsupported" else 422, code, says
    )
    for name, (data, code) in images.refused_at_intake().items()
    for says in [{"bomb": "144.0 megapixels", "20 x 20": "at least 64", "heic": "iPhone"}.get(name, "")]
}
BAD_FORMS = {
    "no file": form("image_missing", "file field named 'image'", age="54"),
    "nothing at all": body(400, "image_missing", "file field named 'image'", form_body(), FORM),
    "file under another name": form("image_missing", "The field 'photo' is unknown", photo=File()),
    "image as text": form("image_missing", "text field: give it a file name", image="\xff\xd8\xff"),
    "two images": form("image_repeated", "as its own case", image=[File(), File()]),
    "image as file and as text": body(
        400,
        "image_repeated",
        "as its own case",
        form_body(('"image"; filename="a.jpg"', JPEG), ('"image"', b"x")),
        FORM,
    ),
    "field twice": form("field_repeated", "'age'", image=File(), age=["54", "55"]),
    "unknown field": fields("'diagnosis'", "field_unknown", diagnosis="melanoma"),
    "file as a field": fields("reference", reference=File()),
    "age in words": fields("age: Input should be a valid integer", age="old"),
    "age below": fields("greater than or equal to 0", age="-1"),
    "age above": fields("less than or equal to 120", age="121"),
    "age with months": fields("age", age="4.5"),
    "age left empty": fields("age", age=""),
    "priority": fields("'urgent' or 'routine'", priority="stat"),
    "sex": fields("'female', 'male' or 'other'", sex="f"),
    "long reference": fields("at most 200 characters", reference="r" * 201),
    "long site": fields("at most 100 characters", site="s" * 101),
    "NUL in reference": fields("without control characters", reference="a\0b"),
    "line break in site": fields("without control characters", site="arm\r\nleg"),
    "reference that is no UTF-8": body(
        400,
        "field_invalid",
        "must be UTF-8",
        form_body(('"image"; filename="a.jpg"', JPEG), ('"reference"', b"L\xe4sion")),
        FORM,
    ),
    "key too long": key_header("k" * 256, "at most 255 characters"),
    "key empty": key_header("", "at least 1 character"),
    "key that is no ASCII": key_header("Schlüssel", "match pattern"),
}
BAD_BODIES = {
    "broken JSON": body(400, "json_malformed", "not valid JSON", b"{", "application/json"),
    "JSON that is no UTF-8": body(400, "json_malformed", "not valid JSON", b'{"site": "\xe4"}', "application/json"),
    "JSON without end": body(400, "json_malformed", "not valid JSON", b"[" * 60_000, "application/json"),
    "JSON with the photograph in it": body(400, "field_missing", "'upload_id'", b'{"image": "x"}', "application/json"),
    "JSON array": body(400, "field_invalid", "should be an object", b"[]", "application/json"),
    "JSON over its limit": body(413, "upload_too_large", "exceeds the size limit", b" " * 70_000, "application/json"),
    "urlencoded": body(415, "content_type_unsupported", "", b"image=x", "application/x-www-form-urlencoded"),
    "the bare photograph": body(415, "content_type_unsupported", "a file field named 'image'", JPEG, "image/jpeg"),
    "no content type": body(415, "content_type_unsupported", "", JPEG, None),
    "no boundary": body(400, "boundary_missing", "HTTP library", form_body(), "multipart/form-data"),
    "a boundary that does not occur": body(400, "image_missing", "", form_body(('"image"', b"")), FORM + "cd"),
    "a form that breaks off": body(400, "image_missing", "", form_body(('"image"; filename="a"', JPEG))[:40], FORM),
}
BAD_QUERIES = {
    "cursor that is no base64": query("cursor=%21%21", "cursor_malformed", "Follow the `next` link"),
    "cursor with an umlaut": query("cursor=%C3%A4", "cursor_malformed", "Follow the `next` link"),
    "empty cursor": query("cursor=", "cursor_malformed", "Follow the `next` link"),
    "cursor of other words": cursor("yesterday noon"),
    "cursor of one word": cursor("2026-01-01T00:00:00+00:00"),
    "cursor without an id": cursor("2026-01-01T00:00:00+00:00 7"),
    "cursor before the calendar": cursor(f"0001-01-01T00:00:00+14:00 {uuid4()}"),
    "long cursor": query(f"cursor={'a' * 201}", "field_invalid", "at most 200 characters"),
    "limit 0": query("limit=0", "field_invalid", "greater than or equal to 1"),
    "limit 201": query("limit=201", "field_invalid", "less than or equal to 200"),
    "limit in words": query("limit=all", "field_invalid", "valid integer"),
    "unknown state": query("state=done", "field_invalid", "'queued', 'running'"),
    "unknown parameter": query("page=2", "field_unknown", "'page'"),
    "parameter twice": query("state=failed&state=rejected", "field_repeated", "'state'"),
    "NUL in a filter": query("reference=%00", "field_invalid", "control characters"),
}
BAD_KEYS = {
    "no key": authorization(None, "key_missing", "Authorization: Bearer <key>"),
    "empty key": authorization("Bearer  ", "key_missing", "Authorization: Bearer <key>"),
    "other scheme": authorization("Basic dXNlcjpwYXNz", "key_missing", "Authorization: Bearer <key>"),
    "key without scheme": authorization("dq_0123_4567", "key_missing", "Authorization: Bearer <key>"),
    "invented key": authorization(f"Bearer dq_{'0' * 12}_x", "key_unknown", "copied whole"),
    "no key of ours": authorization("Bearer eyJhbGciOi.x.y", "key_unknown", "copied whole"),
    "truncated key": Bad(lambda clinic: Api(clinic.client, clinic.key[:-1]).submit(), 401, "key_unknown", "whole"),
}
BAD_ADDRESSES = {
    "unknown case": Bad(lambda clinic: clinic.get(UNKNOWN_ADDRESS), 404, "case_not_found", "no such case"),
    "malformed id": Bad(lambda clinic: clinic.get("/v1/cases/7"), 404, "case_not_found", "no such case"),
    "NUL in the id": Bad(lambda clinic: clinic.get("/v1/cases/%00"), 404, "case_not_found", "no such case"),
    "unknown page": Bad(lambda clinic: clinic.get("/v2/cases"), 404, "page_not_found", "/docs"),
    "trailing slash": Bad(lambda clinic: clinic.get("/v1/cases/"), 404, "page_not_found", "/docs"),
    "wrong method": Bad(lambda clinic: clinic.call("PUT", "/v1/cases"), 405, "method_not_allowed", "/docs"),
}
REACHING_THE_DATABASE = BAD_FORMS | BAD_QUERIES | BAD_KEYS | BAD_ADDRESSES
TABLE = REACHING_THE_DATABASE | BAD_FILES | BAD_BODIES


@pytest.fixture
def everything(rows, stored_keys, rung) -> Callable[[Clinic], tuple]:
    """Look at all that a request can change."""
    return lambda clinic: (rows(), stored_keys(clinic), rung())


@pytest.mark.parametrize(
    ("name", "database_url"),
    [*((name, "sqlite") for name in TABLE), *((name, "postgresql") for name in REACHING_THE_DATABASE)],
    indirect=["database_url"],
)
def test_a_bad_request_is_told_what_is_wrong_and_changes_nothing(clinic, everything, name):
    bad, before = TABLE[name], everything(clinic)
    problem = read_problem(bad.send(clinic), bad.status)
    assert problem["code"] == bad.code
    assert bad.says in problem["detail"]
    assert everything(clinic) == before


def test_a_revoked_key_opens_nothing(revoked, clinic, everything):
    before = everything(clinic)
    for answer in (revoked.submit(), revoked.get("/v1/cases"), revoked.get("/v1/models/current")):
        assert read_problem(answer, 401)["code"] == "key_revoked"
        assert answer.headers["WWW-Authenticate"] == 'Bearer realm="dermqueue"'
    assert everything(clinic) == before


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("GET", "/image"), ("GET", "/heatmap"), ("POST", "/cancel"), ("DELETE", "")],
)
def test_another_clinics_case_looks_exactly_like_none(clinic, other_clinic, everything, method, path):
    address = clinic.submit().headers["Location"]
    before = everything(clinic)
    theirs, nobodys = (other_clinic.call(method, place + path) for place in (address, UNKNOWN_ADDRESS))
    assert read_problem(theirs, 404)["code"] == "case_not_found"
    assert theirs.headers.pop("X-Request-Id") != nobodys.headers.pop("X-Request-Id")
    assert (theirs.status, theirs.headers, theirs.data) == (nobodys.status, nobodys.headers, nobodys.data)
    assert everything(clinic) == before


@pytest.mark.parametrize("excess_bytes", [1, 10**6])
def test_a_file_over_the_limit_is_refused(open_app, clinic, everything, excess_bytes):
    strict = Api(open_app(max_upload_bytes=len(JPEG)).test_client(), clinic.key)
    assert strict.submit(JPEG).status_code == 202
    before = everything(clinic)
    problem = read_problem(strict.submit(JPEG + bytes(excess_bytes)), 413)
    assert problem["code"] == "upload_too_large"
    assert "Send a JPEG" in problem["detail"]
    assert everything(clinic) == before


def test_a_wrong_method_is_told_the_right_ones(clinic):
    assert clinic.call("PUT", "/v1/cases").allow.as_set() == {"get", "head", "options", "post"}


def test_an_error_that_nobody_foresaw_tells_the_client_nothing(clinic, services, monkeypatch, everything, caplog):
    def collapse(*arguments) -> None:
        raise RuntimeError("SELECT secret FROM /var/lib")

    before = everything(clinic)
    monkeypatch.setattr(services.store, "put", collapse)
    assert read_problem(clinic.submit(), 500)["code"] == "internal_error"
    assert "SELECT secret" in caplog.text
    assert everything(clinic) == before
