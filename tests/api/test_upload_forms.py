"""The form by which a clinic reaches the object store: the store takes it as it was signed, and nothing else."""

import base64
import json
from collections.abc import Callable
from uuid import UUID, uuid4

import httpx
import pytest

from shared.object_keys import upload_key
from shared.storage import open_object_store
from tests.api.calls import JPEG, Api, read_problem
from tests.api.ways_in import filled, open_upload, send_form, submit_upload

# Nothing here reaches the database but the row of the upload, so one kind is enough.
pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def with_policy(change: Callable[[dict], None]) -> Callable[[dict], dict]:
    """Change what a form is allowed and leave its signature."""

    def forge(fields: dict) -> dict:
        policy = json.loads(base64.b64decode(fields["policy"]))
        change(policy)
        return {"policy": base64.b64encode(json.dumps(policy).encode()).decode()}

    return forge


def widen(policy: dict) -> None:
    (size,) = [condition for condition in policy["conditions"] if "content-length-range" in condition]
    size[2] = 2**40


def prolong(policy: dict) -> None:
    policy["expiration"] = "2099-01-01T00:00:00Z"


def falsify(fields: dict) -> dict:
    first, *others = fields["x-amz-signature"]
    return {"x-amz-signature": "".join(["0" if first != "0" else "1", *others])}


FORGED_FORMS = {
    "another type": lambda fields: {"Content-Type": "text/html"},
    "no type": lambda fields: {"Content-Type": None},
    "another key": lambda fields: {"key": f"uploads/{uuid4()}/{uuid4()}"},
    "another case's key": lambda fields: {"key": f"{uuid4()}/{uuid4()}/photograph.jpg"},
    "a pattern for a key": lambda fields: {"key": "uploads/${filename}"},
    "a larger size": with_policy(widen),
    "more time": with_policy(prolong),
    "no policy": lambda fields: {"policy": None},
    "another signature": falsify,
    "no signature": lambda fields: {"x-amz-signature": None},
    "another day": lambda fields: {"x-amz-date": "20200101T000000Z"},
    "no encryption": lambda fields: {"x-amz-server-side-encryption": None},
    "another encryption": lambda fields: {"x-amz-server-side-encryption": "aws:kms"},
    "metadata": lambda fields: {"x-amz-meta-patient": "Jane"},
}


@pytest.mark.parametrize("forged", FORGED_FORMS)
def test_the_store_refuses_a_form_that_was_changed(clinic, s3, servers, lies_there, forged):
    place = open_upload(clinic)
    before = s3.list_objects_v2(Bucket=servers["s3_bucket"])["KeyCount"]
    answer = send_form(place, **FORGED_FORMS[forged](place["fields"]))
    assert answer.status_code in (400, 403), answer.text
    assert lies_there(clinic) == []
    assert s3.list_objects_v2(Bucket=servers["s3_bucket"])["KeyCount"] == before
    assert read_problem(submit_upload(clinic, place["upload_id"]), 409)["code"] == "upload_empty"
    assert send_form(place).status_code == 204  # it was the change that it minded


@pytest.mark.parametrize("excess", [1, 100_000])
def test_the_store_refuses_what_is_too_large(open_app, clinic, lies_there, excess):
    strict = Api(open_app(max_upload_bytes=len(JPEG)).test_client(), clinic.key)
    place = open_upload(strict)
    assert place["max_bytes"] == len(JPEG)
    assert "EntityTooLarge" in send_form(place, JPEG + bytes(excess)).text
    assert lies_there(clinic) == []
    assert send_form(place).status_code == 204


def test_the_store_refuses_an_empty_file(clinic, lies_there):
    assert "EntityTooSmall" in send_form(open_upload(clinic), b"").text
    assert lies_there(clinic) == []


def test_the_store_refuses_a_form_whose_time_is_over(clinic, store, lies_there):
    url, fields = store.presign_post(upload_key(clinic.id, uuid4()), "image/jpeg", 10**6, valid_s=-1)
    answer = send_form({"url": url, "fields": fields})
    assert answer.status_code == 403
    assert "expired" in answer.text
    assert lies_there(clinic) == []


def test_the_store_takes_a_form_for_no_other_bucket(clinic, s3, servers):
    other = f"other-{uuid4()}"
    s3.create_bucket(Bucket=other)
    place = open_upload(clinic)
    assert send_form(place | {"url": place["url"].replace(servers["s3_bucket"], other)}).status_code == 403
    assert s3.list_objects_v2(Bucket=other)["KeyCount"] == 0


def test_a_form_cannot_make_a_photograph_public(clinic):
    place = open_upload(clinic)
    send_form(place, acl="public-read")  # the store may ignore or refuse it
    assert httpx.get(f"{place['url']}/{place['fields']['key']}", trust_env=False).status_code == 403


@pytest.mark.parametrize("public", ["https://files.example", "https://files.example:8443/s3/"])
def test_clinics_are_told_the_address_under_which_they_reach_the_store(open_app, clinic, settings, public):
    distant = Api(open_app(s3_public_url=public).test_client(), clinic.key)
    place = open_upload(distant)
    assert place["url"] == f"{public.rstrip('/')}/{settings.s3_bucket}"
    assert send_form(place | {"url": f"{settings.s3_endpoint_url}/{settings.s3_bucket}"}).status_code == 204
    assert submit_upload(distant, place["upload_id"]).status_code == 202


def test_a_store_that_encrypts_by_itself_is_asked_for_nothing(settings):
    plain = open_object_store(settings.model_copy(update={"s3_encryption": "none"}))
    url, fields = plain.presign_post("uploads/plain", "image/jpeg", 10**6, valid_s=60)
    assert "x-amz-server-side-encryption" not in fields
    assert send_form({"url": url, "fields": fields}).status_code == 204


def test_what_lies_there_is_encrypted_as_everything_else(clinic, s3, servers):
    key = upload_key(clinic.id, UUID(filled(clinic)))
    assert s3.head_object(Bucket=servers["s3_bucket"], Key=key)["ServerSideEncryption"] == "AES256"
