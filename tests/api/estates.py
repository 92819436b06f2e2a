"""What a clinic owns, and everything by which an answer could give it away."""

from uuid import UUID, uuid4

from shared.database import Database
from shared.domain import Role
from shared.storage import ObjectStore
from shared.store import access, uploads
from tests import images
from tests.api.calls import Clinic, File, record_problem, record_result
from tests.api.ways_in import filled, send_many
from tests.factories import add_key


class Estate:
    """What one clinic owns; nothing in it is like another estate's.

    `things` holds ids: by kind, and by what is the matter with the thing. `ids` and `private` hold, as bytes, what an
    answer must not contain: the names of all that was ever made here, and what the clinic said and sent.
    """

    def __init__(self, clinic: Clinic, database: Database, store: ObjectStore, side: int):
        self._clinic, self._database, self._store = clinic, database, store
        self._photograph = images.encode(images.lesion(side, side), "JPEG")
        self._overlay = images.encode(images.lesion(side, side), "PNG")
        self.ids = {str(clinic.id).encode()}
        self.private = {_middle_of(self._photograph), _middle_of(self._overlay)}
        self.things: dict[str, dict[str, str]] = {}
        self.renew()

    def renew(self) -> None:
        """Put new things in the place of those that calls may have changed."""
        for case_id in self.things.get("case_id", {}).values():
            self._clinic.call("POST", f"/v1/cases/{case_id}/cancel")  # or ever more would wait
        self.things = {
            "case_id": {state: self._make_case(state) for state in ("usual", "queued", "failed", "deleted")},
            "upload_id": {state: self._make_upload(state) for state in ("usual", "deleted")},
            "submission_id": {"usual": self._make_submission()},
            "clinic_id": {"usual": str(self._clinic.id)},
            "key_id": {"usual": self._make_key()},
            "webhook_id": {"usual": self._make_webhook()},
        }
        self.ids |= {thing_id.encode() for of_kind in self.things.values() for thing_id in of_kind.values()}

    def _make_case(self, state: str) -> str:
        reference, site, key = (self._invent(name) for name in ("reference", "site", "key"))
        answer = self._clinic.submit(self._photograph, {"Idempotency-Key": key}, reference=reference, site=site)
        assert answer.status_code == 202, answer.text
        case_id = answer.json["id"]
        self.private.add(answer.json["image"]["sha256"].encode())
        if state == "failed":
            record_problem(self._database, case_id)
        elif state != "queued":
            record_result(self._database, self._store, case_id, overlay=self._overlay)
        if state == "deleted":
            self._clinic.call("DELETE", f"/v1/cases/{case_id}")
        return case_id

    def _make_key(self) -> str:
        key = add_key(self._database, Role.CLINIC, self._clinic.id)
        with self._database.reading() as session:
            return str(access.authenticate(session, key).key_id)

    def _make_webhook(self) -> str:
        for webhook in self._clinic.get("/v1/webhooks").json["webhooks"]:  # or there would be too many
            self._clinic.call("DELETE", f"/v1/webhooks/{webhook['id']}")
        return self._clinic.call("POST", "/v1/webhooks", json={"url": "https://clinic.example/hook"}).json["id"]

    def _make_upload(self, state: str) -> str:
        upload_id = filled(self._clinic, self._photograph)
        if state == "deleted":
            with self._database.writing() as session:
                uploads.forget_upload(session, UUID(upload_id))
        return upload_id

    def _make_submission(self) -> str:
        answer = send_many(
            self._clinic, [File(self._photograph, self._invent("name")), File(b"", self._invent("name"))]
        )
        assert [item["state"] for item in answer.json["items"]] == ["queued", "refused"], answer.text
        case_id = answer.json["items"][0]["case_id"]
        self.ids.add(case_id.encode())
        record_result(self._database, self._store, case_id, overlay=self._overlay)
        return answer.json["id"]

    def _invent(self, name: str) -> str:
        text = f"{name} {uuid4()}"
        self.private.add(text.encode())
        return text


def _middle_of(picture: bytes) -> bytes:
    """Return bytes that only this picture holds, and still holds when its metadata were cut out."""
    return picture[len(picture) // 2 :][:64]
