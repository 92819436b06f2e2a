"""The routes for submissions: many photographs at once, each accepted or refused with a reason."""

import io
import unicodedata
from collections.abc import Callable, Sequence, Set
from contextlib import suppress
from functools import partial, wraps
from uuid import UUID, uuid4

from flask import Response, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.answers import POLL_AFTER_S, answer, parse_id
from api.archive import list_photographs
from api.auth import allow, caller
from api.blueprints import guarded_blueprint
from api.bodies import reads_body
from api.counters import REFUSED
from api.intake import SentFile, digest_request, read_up_to, submit_item
from api.problems import problem_responses
from api.schemas import SubmitHeader
from api.services import Services, seated, services
from api.submission_schemas import SubmissionForm, SubmissionOut, SubmissionPath
from shared.database import read_clock
from shared.domain import Caller, Priority, Role
from shared.errors import Conflict, ImageRejected, NotFound, RequestInvalid, Unavailable
from shared.store import submissions

MAX_PHOTOGRAPHS = 500
MAX_BYTES = 512 * 2**20
"""Limit on the request's body, and on an archive's photographs uncompressed."""

_OTHER_PARTS = 10

blueprint = guarded_blueprint("submissions", "/v1/submissions", "Many photographs at once; each becomes a case.")


def takes_much(view: Callable) -> Callable:
    """Raise the limits for a request with many photographs; few are received at a time, since they are held on disk."""

    @wraps(view)
    def receive(**arguments) -> Response:
        request.max_content_length, request.max_form_parts = MAX_BYTES, MAX_PHOTOGRAPHS + _OTHER_PARTS
        busy = Unavailable("intake_busy", "Too many submissions are being received at the moment. Send it again later.")
        with seated(services().submission_seats, busy, waits=False):
            try:
                return view(**arguments)
            except RequestEntityTooLarge as error:
                raise _too_large() from error

    return receive


def check_names(names: list[str]) -> None:
    """Refuse a form with neither photographs nor an archive, or with both."""
    for name in ("image", "archive"):
        if name in request.form:
            raise RequestInvalid("image_missing", f"The field {name!r} was sent as a text field: give it a file name.")
    if ("image" in names) == ("archive" in names):
        raise RequestInvalid(
            "image_missing", "Send photographs in file fields named 'image', or a zip of them in one named 'archive'."
        )


@blueprint.post(
    "",
    responses={
        202: SubmissionOut,
        **problem_responses(400, submission_too_large=413, content_type_unsupported=415, idempotency_key_reused=422),
    },
)
@allow(Role.CLINIC)
@takes_much
@reads_body(form=SubmissionForm, check_names=check_names)
def submit_many(sent: SubmissionForm, header: SubmitHeader) -> Response:
    """Submit many photographs.

    Each becomes a case whose `reference` is the file name, or is refused with its own code; the others are unaffected.
    If a request is interrupted, send it again with the same `Idempotency-Key`: it continues where it stopped.
    """
    submission_id = take_in(services(), caller(), sent, header.idempotency_key)
    response = _answer(submission_id, 202)
    response.headers["Location"] = f"/v1/submissions/{submission_id}"
    return response


@blueprint.get("/<submission_id>", responses={200: SubmissionOut, **problem_responses(submission_not_found=404)})
@allow(Role.CLINIC)
def read_submission(path: SubmissionPath) -> Response:
    """Read the outcome of each photograph in a submission."""
    missing = NotFound("submission_not_found", "There is no such submission.")
    return _answer(parse_id(path.submission_id, missing), 200)


def _answer(submission_id: UUID, status: int) -> Response:
    with services().database.reading() as session:
        submission = submissions.read_submission(session, caller().clinic_id, submission_id)
    response = answer(SubmissionOut.of(submission), status)
    if not submission.is_final:
        response.headers["Retry-After"] = str(POLL_AFTER_S)
    return response


def take_in(to: Services, caller: Caller, form: SubmissionForm, idempotency_key: str | None) -> UUID:
    """Make a case of each photograph, or refuse it; return the submission's id.

    Raises:
        RequestInvalid: the submission as a whole is invalid or too large; nothing was accepted.
        TooMany: the clinic may not have that many more cases waiting now; nothing was accepted.
        Unavailable: the object store or the database became unreachable; what was accepted by then stays.
    """
    items = _list_items(form, to.settings.max_upload_bytes)
    submission_id, done = _begin(to, caller, idempotency_key, _digest(form), len(items))
    for position, item in enumerate(items, start=1):
        if position not in done:
            _take_in_item(to, caller, submission_id, position, item, form.priority)
    with to.database.writing() as session:
        submissions.finish_submission(session, submission_id, read_clock(session))
    return submission_id


def _list_items(form: SubmissionForm, max_photograph_bytes: int) -> Sequence[SentFile]:
    if form.archive is not None:  # one without a file name is falsy
        items = list_photographs(form.archive.stream, max_photograph_bytes, MAX_BYTES)
    else:
        items = [SentFile(file.filename or "", partial(read_up_to, file, max_photograph_bytes)) for file in form.image]
    if len(items) > MAX_PHOTOGRAPHS:
        raise _too_large()
    return items


def _digest(form: SubmissionForm) -> str:
    files = form.image if form.archive is None else [form.archive]
    sent = [(file.filename, file.seek(0, io.SEEK_END)) for file in form.image]
    fields = {"priority": form.priority, "photographs": sent}
    return digest_request(fields, *(file.stream for file in files))


def _begin(
    to: Services, caller: Caller, idempotency_key: str | None, digest: str, wanted: int
) -> tuple[UUID, Set[int]]:
    """Return the id of a new submission, or of the one that this request began before, and which positions are done."""
    with to.database.reading() as session:
        begun = submissions.find_begun(session, caller.clinic_id, idempotency_key, digest)
        if begun and begun[1] != digest:
            raise RequestInvalid(
                "idempotency_key_reused",
                "This Idempotency-Key was used for another submission before. Use a new key for every submission.",
            )
        done = submissions.list_positions(session, begun[0]) if begun else set()
        if wanted > len(done):
            to.backlog.check_room(session, caller.clinic_id, wanted - len(done))
    if begun:
        return begun[0], done
    submission_id = uuid4()
    try:
        with to.database.writing() as session:
            now = read_clock(session)
            submissions.add_submission(session, submission_id, caller.clinic_id, idempotency_key, digest, now)
    except Conflict:
        return _begin(to, caller, idempotency_key, digest, wanted)  # a concurrent request has added it
    return submission_id, done


def _take_in_item(
    to: Services, caller: Caller, submission_id: UUID, position: int, item: SentFile, priority: Priority
) -> None:
    try:
        submit_item(to, caller, submission_id, position, item, priority)
    except (ImageRejected, RequestInvalid) as refusal:
        with suppress(Conflict), to.database.writing() as session:
            error = refusal.code, refusal.detail
            submissions.add_item(session, submission_id, position, _storable(item.name), error=error)
            REFUSED.labels(refusal.code).inc()
    except Conflict:
        pass  # a concurrent repeat of this request has accepted it


def _too_large() -> RequestInvalid:
    return RequestInvalid(
        "submission_too_large",
        f"A submission may have at most {MAX_PHOTOGRAPHS} photographs and {MAX_BYTES // 2**20} MiB. Split it and send"
        " the parts.",
    )


def _storable(name: str) -> str:
    """Replace control characters in a name: PostgreSQL cannot store NUL, and lists cannot show line breaks."""
    return "".join("\ufffd" if unicodedata.category(character) == "Cc" else character for character in name)
