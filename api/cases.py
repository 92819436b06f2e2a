"""The routes for cases: submit, read, wait, list, cancel, delete."""

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID

from flask import Response, request

from api.admin_schemas import FailedQuery
from api.answers import POLL_AFTER_S, answer, parse_case_id
from api.auth import allow, caller
from api.blueprints import guarded_blueprint
from api.bodies import reads_body
from api.changes import changing
from api.intake import submit_photograph, submit_upload
from api.paging import link_to_next, read_cursor, write_cursor
from api.problems import problem_responses
from api.schemas import CaseListOut, CaseOut, CasePath, ListQuery, ReadHeader, SubmitForm, SubmitHeader, SubmitUpload
from api.services import services
from shared.domain import Caller, Case, Role, State
from shared.errors import RequestInvalid, Unavailable
from shared.store import cases, webhooks

LONGEST_WAIT_S = 30
_POLLS_PER_DOUBLING = 16
"""Polls of a case while the time waited doubles: its result is noticed late by at most a sixteenth of the wait."""
_MIN_POLL_S, _MAX_POLL_S = 0.005, 0.2

blueprint = guarded_blueprint("cases", "/v1/cases", "A case is one photograph of a lesion on its way through triage.")


def check_names(names: list[str]) -> None:
    """Refuse a form whose photograph is missing, repeated or sent as text, and say which."""
    if names.count("image") > 1:
        raise RequestInvalid("image_repeated", "A case has one image. Send each photograph as its own case.")
    if "image" in request.files:
        return
    unknown = sorted(set(names) - set(SubmitForm.model_fields))
    hint = f" The field {unknown[0]!r} is unknown." if unknown else ""
    if "image" in names:
        hint = " It was sent as a text field: give it a file name."
    raise RequestInvalid("image_missing", f"Send the photograph in a file field named 'image'.{hint}")


@blueprint.post(
    "",
    responses={202: CaseOut, **problem_responses(400, 413, 415, 422, upload_not_found=404, upload_used=409)},
)
@allow(Role.CLINIC)
@reads_body(form=SubmitForm, check_names=check_names, json=SubmitUpload)
def submit_case(sent: SubmitForm | SubmitUpload, header: SubmitHeader) -> Response:
    """Submit one photograph.

    Send it in a form, or name in JSON an upload to which it was sent. It is stored and queued; poll the address in
    `Location`. The result is a decision aid, not a diagnosis.
    """
    submit = submit_upload if isinstance(sent, SubmitUpload) else submit_photograph
    case = submit(services(), caller(), sent, header.idempotency_key)
    services().reads.note([case], caller())  # a repeated request may find its result
    response = answer(CaseOut.of(case), 202)
    response.headers["Location"] = f"/v1/cases/{case.id}"
    response.headers["Retry-After"] = str(POLL_AFTER_S)
    return response


@blueprint.get("/<case_id>", responses={200: CaseOut, 304: None, **problem_responses(404)})
@allow(Role.CLINIC, Role.REVIEWER)
def read_case(path: CasePath, header: ReadHeader) -> Response:
    """Read a case, or wait for its result."""
    wait_s = _preferred_wait_s(header.prefer or "")
    case, has_waited = _wait_until_final(parse_case_id(path.case_id), wait_s)
    services().reads.note([case], caller())
    response = answer(CaseOut.of(case), 200)
    response.set_etag(f"{case.id}-{case.version}")
    response.headers["Cache-Control"] = "private, no-cache"
    if has_waited:
        response.headers["Preference-Applied"] = f"wait={wait_s:g}"
    if not case.state.is_final:
        response.headers["Retry-After"] = str(POLL_AFTER_S)
    return response.make_conditional(request) if header.if_none_match else response


@blueprint.get("", responses={200: CaseListOut, **problem_responses(400)})
@allow(Role.CLINIC, Role.REVIEWER)
def list_cases(query: ListQuery) -> Response:
    """List cases, newest first.

    The header `Link: <…>; rel="next"` names the next page.
    """
    page, following = list_page(caller(), query)
    response = answer(page, 200)
    link_to_next(response, "/v1/cases", query, following)
    return response


@blueprint.post("/<case_id>/cancel", responses={202: CaseOut, **problem_responses(404, 409)})
@allow(Role.CLINIC)
def cancel_case(path: CasePath) -> Response:
    """Cancel a waiting or running case.

    A case that is already final answers 409.
    """
    case_id = parse_case_id(path.case_id)
    with changing("case.cancelled", case_id) as (session, now):
        case = cases.cancel_case(session, caller(), case_id, now)
        webhooks.announce(session, [case_id], now)
    return answer(CaseOut.of(case), 202)


@blueprint.delete("/<case_id>", responses={202: None, **problem_responses(404)})
@allow(Role.CLINIC)
def delete_case(path: CasePath) -> Response:
    """Erase a case.

    Its photograph, heatmap, result and personal data are erased; the audit trail remains.
    """
    case_id = parse_case_id(path.case_id)
    with changing("case.deleted", case_id) as (session, now):
        cases.delete_case(session, caller(), case_id, now)
    with suppress(Unavailable):  # the sweeper retries until the objects are gone
        services().store.erase_case(caller().clinic_id, case_id)
    return Response(status=202)


def list_page(reader: Caller, query: ListQuery) -> tuple[CaseListOut, str | None]:
    """Return a page of cases and the cursor of the next one; audit what is shown."""
    page, following = find_page(reader, query, query.state, query.reference)
    services().reads.note(page, reader)
    return CaseListOut(cases=[CaseOut.of(case) for case in page]), following


def find_page(
    reader: Caller, query: ListQuery | FailedQuery, state: State | None, reference: str | None = None
) -> tuple[Sequence[Case], str | None]:
    """Return the page of cases that a query asks for, and the cursor of the next one; audit nothing.

    Raises:
        RequestInvalid: `cursor_malformed`.
    """
    wanted = cases.CaseFilter(state, reference, read_cursor(query.cursor, _parse_place))
    with services().database.reading() as session:
        found = cases.list_cases(session, reader, wanted, query.limit + 1)
    page = found[: query.limit]
    return page, _cursor_after(page[-1]) if len(found) > len(page) else None


def _cursor_after(case: Case) -> str:
    return write_cursor(f"{case.submitted_at.isoformat()} {case.id}".encode())


def _parse_place(text: bytes) -> tuple[datetime, UUID]:
    moment, case_id = text.decode().split(" ")
    return datetime.fromisoformat(moment).astimezone(UTC), UUID(case_id)


def find_case(case_id: UUID) -> Case:
    """Return a case that this caller may see; audit nothing.

    Raises:
        NotFound: `case_not_found`.
    """
    with services().database.autocommitting() as connection:
        return cases.read_case(connection, caller(), case_id)


def _wait_until_final(case_id: UUID, wait_s: float) -> tuple[Case, bool]:
    """Poll the case until it is final or the wait is over; return it and whether the preference was applied.

    Only a limited number of threads may wait; beyond that, the preference is ignored.
    """
    case = find_case(case_id)
    if not wait_s or case.state.is_final:
        return case, wait_s > 0
    if not services().waiting_seats.acquire(blocking=False):
        return case, False
    try:
        began = time.monotonic()
        while not case.state.is_final and (waited_s := time.monotonic() - began) < wait_s:
            time.sleep(min(max(waited_s / _POLLS_PER_DOUBLING, _MIN_POLL_S), _MAX_POLL_S))
            case = find_case(case_id)
        return case, True
    finally:
        services().waiting_seats.release()


def _preferred_wait_s(prefer: str) -> float:
    """Return the seconds of `Prefer: wait=…` (RFC 7240), at most `LONGEST_WAIT_S`; 0 without one."""
    match = re.search(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", prefer, re.IGNORECASE)
    return min(int(match[1]), LONGEST_WAIT_S) if match else 0
