"""Takes photographs in, from every route: check, strip metadata, store, commit the case, wake a worker."""

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import IO, NamedTuple
from uuid import UUID, uuid4

from pydantic import ValidationError
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from api.counters import ACCEPTED
from api.photo_metadata import strip_metadata
from api.schemas import CaseFields, SubmitForm, SubmitUpload, composed
from api.services import Services, seated
from shared.database import read_clock
from shared.domain import REFERENCE_LENGTH, Caller, Case, NewCase, Photograph, Priority
from shared.durability import sync_disk_of
from shared.errors import Conflict, NotFound, ObjectMissing, RequestInvalid, Unavailable
from shared.object_keys import photograph_key
from shared.photograph import inspect_photograph
from shared.store import cases, submissions, trail, uploads
from shared.tracing import current_traceparent, span

_CHUNK_BYTES = 256 * 1024

log = logging.getLogger(__name__)

Tie = Callable[[Session], None]
"""Writes more in the transaction that accepts a case."""


class SentFile(NamedTuple):
    """A photograph of a submission, as it was sent. `read` returns its bytes, or raises the reason for its refusal."""

    name: str
    read: Callable[[], bytes]


class _Request(NamedTuple):
    """Who submits a case, and with what fields. `sha256`: see `digest_request`."""

    caller: Caller
    fields: CaseFields
    idempotency_key: str | None
    sha256: str


def submit_photograph(to: Services, caller: Caller, form: SubmitForm, idempotency_key: str | None) -> Case:
    """Accept a photograph that was sent in a form, and return its case: it is stored and the row committed.

    Raises:
        ImageRejected: by its header, the photograph cannot be analysed.
        RequestInvalid: `upload_too_large`, or `idempotency_key_reused` for another request.
        TooMany: too many of the clinic's cases are waiting.
        Unavailable: the object store or the database is unreachable, or the backlog or memory is full; nothing was
            accepted.
    """
    digest = digest_request(form.model_dump(mode="json", exclude={"image"}), form.image.stream)
    asked = _Request(caller, form, idempotency_key, digest)
    with to.database.autocommitting() as connection:
        if accepted := _find_accepted(connection, asked):
            return accepted
        to.backlog.check_room(connection, caller.clinic_id)
    return _accept(to, asked, _store(to, asked, partial(read_up_to, form.image.stream, to.settings.max_upload_bytes)))


def submit_upload(to: Services, caller: Caller, sent: SubmitUpload, idempotency_key: str | None) -> Case:
    """Accept a photograph that the clinic sent straight to the object store, and return its case.

    Raises:
        NotFound: `upload_not_found`.
        Conflict: `upload_used`; `upload_empty`: nothing has been sent yet.
        RequestInvalid: `upload_digest_mismatch`, or see `submit_photograph`.
        ImageRejected, TooMany, Unavailable: see `submit_photograph`.
    """
    asked = _Request(caller, sent, idempotency_key, digest_request(sent.model_dump(mode="json")))
    try:
        with to.database.reading() as session:
            if accepted := _find_accepted(session, asked):
                return accepted
            upload = uploads.find_upload(session, caller.clinic_id, sent.upload_id, read_clock(session))
            to.backlog.check_room(session, caller.clinic_id)
        case = _store(to, asked, partial(_fetch_upload, to, upload))
        accepted = _accept(to, asked, case, lambda session: uploads.use_upload(session, upload.id, case.id))
    except Conflict:
        if winner := _find_winner(to, asked):
            return winner  # the same request, repeated before the first one was answered
        raise
    with suppress(Unavailable):  # housekeeping deletes it once it has expired
        to.store.delete(upload.object_key)
    return accepted


def submit_item(
    to: Services, caller: Caller, submission_id: UUID, position: int, item: SentFile, priority: Priority
) -> None:
    """Make a case of one photograph of a submission, and record both in one transaction.

    Raises:
        ImageRejected, RequestInvalid: what is wrong with this photograph.
        Conflict: another request has accepted it meanwhile.
        Unavailable: see `submit_photograph`.
    """
    try:
        fields = CaseFields(reference=composed(item.name)[:REFERENCE_LENGTH] or None, priority=priority)
    except ValidationError as error:
        raise RequestInvalid(
            "name_unreadable",
            "The file name is not UTF-8 or contains control characters. Rename the file and send it again.",
        ) from error
    # No key is needed: each position in a submission can be filled once, in the transaction that adds the case.
    asked = _Request(caller, fields, None, digest_request({"submission": str(submission_id), "position": position}))
    case = _store(to, asked, item.read)
    _accept(to, asked, case, lambda session: submissions.add_item(session, submission_id, position, item.name, case.id))


def digest_request(fields: dict, *files: IO[bytes]) -> str:
    """Return the SHA-256 of a request's fields and files, which are read in chunks.

    With several files, `fields` must hold the length of each, or two different requests could have the same digest.
    """
    digest = hashlib.sha256(json.dumps(fields, sort_keys=True).encode())
    for file in files:
        digest.update(b"\0")
        file.seek(0)
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
        file.seek(0)
    return digest.hexdigest()


def read_up_to(file: IO[bytes], limit_bytes: int) -> bytes:
    """Return a photograph's bytes.

    Raises:
        RequestInvalid: `upload_too_large`.
    """
    data = file.read(limit_bytes + 1)
    check_size(len(data), limit_bytes)
    return data


def check_size(size_bytes: int, limit_bytes: int) -> None:
    """Raise RequestInvalid `upload_too_large` if a photograph is over the limit."""
    if size_bytes > limit_bytes:
        raise RequestInvalid(
            "upload_too_large",
            f"The photograph exceeds the limit of {limit_bytes / 2**20:g} MiB. Send a JPEG, or a smaller picture.",
        )


def _fetch_upload(to: Services, upload: uploads.Upload) -> bytes:
    """Fetch an upload and repeat the checks asked of the store, which may be any S3 server and checks no content."""
    limit_bytes = to.settings.max_upload_bytes
    try:
        data = to.store.get_up_to(upload.object_key, limit_bytes)
    except ObjectMissing as error:
        raise Conflict(
            "upload_empty", "Nothing has been sent to this upload. First send the form with the photograph to its url."
        ) from error
    check_size(len(data), limit_bytes)
    if upload.sha256 and hashlib.sha256(data).hexdigest() != upload.sha256:
        raise RequestInvalid(
            "upload_digest_mismatch",
            "The SHA-256 of the uploaded file differs from the one announced. Send the form again, then this request.",
        )
    return data


def _store(to: Services, asked: _Request, read: Callable[[], bytes]) -> NewCase:
    """Check, strip and store a photograph. It is in memory only here, and the number at a time is limited."""
    busy = Unavailable("intake_busy", "Too many photographs are being processed at the moment. Send it again.")
    with seated(to.photograph_seats, busy):
        upload = read()
        header = inspect_photograph(upload)
        stored = strip_metadata(upload, header.media_type)
        case_id, stored_sha256 = uuid4(), hashlib.sha256(stored).hexdigest()
        photograph = Photograph(
            key=photograph_key(asked.caller.clinic_id, case_id, stored_sha256, header.media_type),
            media_type=header.media_type,
            width=header.width,
            height=header.height,
            size_bytes=len(upload),
            sha256=hashlib.sha256(upload).hexdigest(),
        )
        with span("store"):
            to.store.put(photograph.key, stored, header.media_type)
            if to.settings.s3_folder:
                sync_disk_of(to.settings.s3_folder)
    return NewCase(
        id=case_id,
        clinic_id=asked.caller.clinic_id,
        photograph=photograph,
        priority=asked.fields.priority,
        reference=asked.fields.reference,
        age=asked.fields.age,
        sex=asked.fields.sex,
        site=asked.fields.site,
        idempotency_key=asked.idempotency_key,
        request_sha256=asked.sha256,
        traceparent=current_traceparent(),
    )


def _accept(to: Services, asked: _Request, case: NewCase, tie: Tie = lambda session: None) -> Case:
    """Commit the row, then wake a worker. After an unclear commit, the photograph stays: the case may exist."""
    try:
        with span("commit"), to.database.writing() as session:
            now = read_clock(session)
            accepted = cases.add_case(session, case, now)
            tie(session)
            trail.audit(session, asked.caller, "case.submitted", [case.id], now)
    except (Conflict, NotFound):
        with suppress(Unavailable):  # nothing refers to it: at worst, it is left in the store
            to.store.delete(case.photograph.key)
        if winner := _find_winner(to, asked):
            return winner
        raise  # the winner was deleted meanwhile, or the upload or the position in the submission was already used
    ACCEPTED.labels(case.clinic_id).inc()
    log.info("case_accepted case_id=%s clinic_id=%s", case.id, case.clinic_id)
    to.doorbell.ring()
    return accepted


def _find_winner(to: Services, asked: _Request) -> Case | None:
    with to.database.autocommitting() as connection:
        return _find_accepted(connection, asked)


def _find_accepted(session: Session | Connection, asked: _Request) -> Case | None:
    if asked.idempotency_key is None:
        return None
    found = cases.find_by_idempotency_key(session, asked.caller.clinic_id, asked.idempotency_key)
    if found is None:
        return None
    case, first_sha256 = found
    if first_sha256 != asked.sha256:
        raise RequestInvalid(
            "idempotency_key_reused",
            "This Idempotency-Key was used for another request before. Use a new key for every case.",
        )
    return case
