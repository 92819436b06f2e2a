"""Takes one photograph in: check, strip, store, put in the queue, ring."""

import hashlib
import json
from contextlib import suppress
from uuid import uuid4

from api.photo_metadata import strip_metadata
from api.schemas import SubmitForm
from api.services import Services
from shared.database import read_clock
from shared.domain import Caller, Case, NewCase, Photograph
from shared.errors import Conflict, RequestInvalid, Unavailable
from shared.photograph import inspect_photograph
from shared.storage import photograph_key
from shared.store import cases, trail


def submit_photograph(to: Services, caller: Caller, form: SubmitForm, idempotency_key: str | None) -> Case:
    """Return the accepted case: its photograph is stored and its row committed.

    Raises:
        ImageRejected: the header tells that this is no photograph that can be analysed.
        RequestInvalid: `upload_too_large`, or `idempotency_key_reused` with another request.
        TooMany: too many of the clinic's cases wait already.
        Unavailable: the object store or the database is away, or the backlog is full; nothing was accepted.
    """
    upload = _read_upload(form, to.settings.max_upload_bytes)
    header = inspect_photograph(upload)
    request_sha256 = _digest_request(form, upload)
    if idempotency_key and (accepted := _find_accepted(to, caller, idempotency_key, request_sha256)):
        return accepted
    with to.database.reading() as session:
        to.backlog.check_room(session, caller.clinic_id)
    stored = strip_metadata(upload, header.media_type)
    case_id = uuid4()
    key = photograph_key(caller.clinic_id, case_id, hashlib.sha256(stored).hexdigest(), header.media_type)
    case = NewCase(
        id=case_id,
        clinic_id=caller.clinic_id,
        photograph=Photograph(
            key=key,
            media_type=header.media_type,
            width=header.width,
            height=header.height,
            size_bytes=len(upload),
            sha256=hashlib.sha256(upload).hexdigest(),
        ),
        priority=form.priority,
        reference=form.reference,
        age=form.age,
        sex=form.sex,
        site=form.site,
        idempotency_key=idempotency_key,
        request_sha256=request_sha256,
    )
    to.store.put(key, stored, header.media_type)
    return _accept(to, caller, case)


def _accept(to: Services, caller: Caller, case: NewCase) -> Case:
    """Commit the row, then ring. A photograph whose commit ended unknown stays stored: it may have been accepted."""
    try:
        with to.database.writing() as session:
            now = read_clock(session)
            accepted = cases.add_case(session, case, now)
            trail.audit(session, caller, "case.submitted", [case.id], now)
    except Conflict:
        with suppress(Unavailable):  # nothing refers to it: at worst it stays behind
            to.store.delete(case.photograph.key)
        if winner := _find_accepted(to, caller, case.idempotency_key, case.request_sha256):
            return winner
        raise  # the winner was deleted meanwhile
    to.doorbell.ring()
    return accepted


def _find_accepted(to: Services, caller: Caller, idempotency_key: str, request_sha256: str) -> Case | None:
    with to.database.reading() as session:
        found = cases.find_submission(session, caller.clinic_id, idempotency_key)
    if found is None:
        return None
    case, first_request_sha256 = found
    if first_request_sha256 != request_sha256:
        raise RequestInvalid(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request before. Use a new key for every case.",
        )
    return case


def _read_upload(form: SubmitForm, limit_bytes: int) -> bytes:
    upload = form.image.stream.read(limit_bytes + 1)
    if len(upload) > limit_bytes:
        raise RequestInvalid(
            "upload_too_large",
            f"The photograph is over the limit of {limit_bytes / 2**20:g} MiB. Send a JPEG, or a smaller picture.",
        )
    return upload


def _digest_request(form: SubmitForm, upload: bytes) -> str:
    fields = form.model_dump(mode="json", exclude={"image"})
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode() + b"\0" + upload).hexdigest()
