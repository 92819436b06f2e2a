"""The names of objects in the bucket.

Keys are `<clinic>/<case>/<what>`: nothing personal, and all of a case's objects share a prefix, so that erasing one
case can never erase another's photograph, even if both clinics sent the same bytes.
"""

import re
from uuid import UUID

UPLOADS = "uploads/"
_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_SUFFIXES = {"image/jpeg": "jpg", "image/png": "png", "image/webp": "webp"}


def photograph_key(clinic_id: UUID, case_id: UUID, stored_sha256: str, media_type: str) -> str:
    """Return a photograph's key; the digest in it is that of the stored bytes."""
    return f"{clinic_id}/{case_id}/{stored_sha256}.{_SUFFIXES[media_type]}"


def overlay_key(clinic_id: UUID, case_id: UUID, lease_token: UUID) -> str:
    """Return the key of a lease's overlay; a late worker cannot overwrite the one that was recorded."""
    return f"{clinic_id}/{case_id}/overlay-{lease_token}.jpg"


def upload_key(clinic_id: UUID, upload_id: UUID) -> str:
    """Return the key of a clinic's direct upload; no case's objects share its prefix."""
    return f"{UPLOADS}{clinic_id}/{upload_id}"


def is_upload(key: str) -> bool:
    """Tell whether it is the key of an upload or of a probe, rather than another program's."""
    return re.fullmatch(rf"{UPLOADS}({_UUID}/|probe-){_UUID}", key) is not None


def digest_in_key(key: str) -> str:
    """Return the SHA-256 that a photograph's key promises."""
    return key.rsplit("/", 1)[1].split(".", 1)[0]


def case_of_key(key: str) -> UUID | None:
    """Return the case that an object belongs to, or None if it belongs to none."""
    try:
        clinic_id, case_id, _ = key.split("/")
        UUID(clinic_id)  # raises if it is not one
        return UUID(case_id)
    except ValueError:
        return None
