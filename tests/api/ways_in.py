"""The ways in beside one photograph at a time, as the tests walk them: uploads and submissions."""

import httpx
from werkzeug.test import TestResponse

from tests.api.calls import JPEG, Api, File
from tests.archives import zipped


def open_upload(clinic: Api, media_type: str = "image/jpeg", **announced) -> dict:
    answer = clinic.call("POST", "/v1/uploads", json={"media_type": media_type, **announced})
    assert answer.status_code == 201, answer.text
    return answer.json


def send_form(place: dict, data: bytes = JPEG, **changes: str | None) -> httpx.Response:
    """Send the form, with other fields, or without those that are changed to None."""
    fields = {name: value for name, value in (place["fields"] | changes).items() if value is not None}
    return httpx.post(place["url"], data=fields, files={"file": ("lesion.jpg", data)}, trust_env=False)


def filled(clinic: Api, data: bytes = JPEG, **announced) -> str:
    """Return the id of an upload to which this was sent."""
    place = open_upload(clinic, **announced)
    assert send_form(place, data).status_code == 204
    return place["upload_id"]


def submit_upload(clinic: Api, upload_id: str, headers: dict | None = None, **fields) -> TestResponse:
    return clinic.call("POST", "/v1/cases", headers, json={"upload_id": upload_id, **fields})


def send_many(clinic: Api, files: list[File], headers: dict | None = None, **fields) -> TestResponse:
    """Send each photograph in a field of its own."""
    return send_submission(clinic, headers, image=files, **fields)


def send_archive(clinic: Api, archive: bytes, headers: dict | None = None, **fields) -> TestResponse:
    return send_submission(clinic, headers, archive=File(archive, "photographs.zip", "application/zip"), **fields)


def send_submission(clinic: Api, headers: dict | None = None, **fields) -> TestResponse:
    return clinic.submit_form(fields, headers, "/v1/submissions")


def send_by(way: str, clinic: Api, files: list[File], headers: dict | None = None, **fields) -> TestResponse:
    if way == "images":
        return send_many(clinic, files, headers, **fields)
    return send_archive(clinic, zipped({file.name: file.data for file in files}), headers, **fields)


def codes(answer: TestResponse) -> list[str | None]:
    """Return each item's error, by position."""
    assert answer.status_code in (200, 202), answer.text
    items = answer.json["items"]
    assert [item["position"] for item in items] == sorted(item["position"] for item in items)
    return [item["error"] and item["error"]["code"] for item in items]
