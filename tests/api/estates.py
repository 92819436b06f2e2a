"""What a clinic owns, and everything by which an answer could give it away."""

from uuid import uuid4

from shared.database import Database
from shared.storage import ObjectStore
from tests import images
from tests.api.calls import Clinic, record_failure, record_result

STATES = ("queued", "succeeded", "failed", "deleted")


class Estate:
    """One clinic's cases, one in each of `STATES`. Nothing in them is like another estate's.

    `ids` and `private` hold, as bytes, what an answer must not contain: the names of all that was ever made here, and
    what the clinic said and sent.
    """

    def __init__(self, clinic: Clinic, database: Database, store: ObjectStore, side: int):
        self._clinic, self._database, self._store = clinic, database, store
        self._photograph = images.encode(images.lesion(side, side), "JPEG")
        self._overlay = images.encode(images.lesion(side, side), "PNG")
        self.ids = {str(clinic.id).encode()}
        self.private = {_middle_of(self._photograph), _middle_of(self._overlay)}
        self.cases: dict[str, str] = {}
        self.renew()

    def renew(self) -> None:
        """Put new cases in the place of those that calls may have changed."""
        for case_id in self.cases.values():
            self._clinic.call("POST", f"/v1/cases/{case_id}/cancel")  # or ever more would wait
        self.cases = {state: self._make_case(state) for state in STATES}

    def _make_case(self, state: str) -> str:
        reference, site, key = (f"{name} {uuid4()}" for name in ("reference", "site", "key"))
        answer = self._clinic.submit(self._photograph, {"Idempotency-Key": key}, reference=reference, site=site)
        assert answer.status_code == 202, answer.text
        case_id, digest = answer.json["id"], answer.json["image"]["sha256"]
        self.ids.add(case_id.encode())
        self.private |= {text.encode() for text in (reference, site, key, digest)}
        if state == "failed":
            record_failure(self._database, case_id)
        elif state != "queued":
            record_result(self._database, self._store, case_id, overlay=self._overlay)
        if state == "deleted":
            self._clinic.call("DELETE", f"/v1/cases/{case_id}")
        return case_id


def _middle_of(picture: bytes) -> bytes:
    """Return bytes that only this picture holds, and still holds when its metadata were cut out."""
    return picture[len(picture) // 2 :][:64]
