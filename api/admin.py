"""The admins' routes for the audit trail and failed cases. None shows a photograph or a result."""

from flask import Response

from api.admin_schemas import AuditPageOut, AuditQuery, FailedCaseOut, FailedListOut, FailedQuery
from api.answers import answer, parse_case_id
from api.auth import allow, caller
from api.blueprints import guarded_blueprint
from api.cases import find_page
from api.changes import changing
from api.paging import link_to_next
from api.problems import problem_responses
from api.schemas import CasePath
from api.services import services
from shared.domain import Role, State
from shared.store import cases, trail

blueprint = guarded_blueprint("admin", "/v1/admin", "The audit trail and failed cases, for those who run the service.")


@blueprint.get("/audit", responses={200: AuditPageOut, **problem_responses(400)})
@allow(Role.ADMIN)
def list_audit(query: AuditQuery) -> Response:
    """Read the audit trail, newest first.

    Each entry's `hash` covers the entry and the hash before it; `dermqueue audit verify` recomputes them all.
    """
    with services().database.reading() as session:
        found = trail.list_entries(session, query.case_id, query.before, query.limit)
    return answer(AuditPageOut.of(found), 200)


@blueprint.get("/failed", responses={200: FailedListOut, **problem_responses(400)})
@allow(Role.ADMIN)
def list_failed(query: FailedQuery) -> Response:
    """List failed cases, newest first: they have no result, through no fault of the clinic.

    The header `Link: <…>; rel="next"` names the next page.
    """
    page, following = list_failed_page(query)
    response = answer(page, 200)
    link_to_next(response, "/v1/admin/failed", query, following)
    return response


def list_failed_page(query: FailedQuery) -> tuple[FailedListOut, str | None]:
    """Return a page of failed cases and the cursor of the next one."""
    page, following = find_page(caller(), query, State.FAILED)
    return FailedListOut(cases=[FailedCaseOut.of(case) for case in page]), following


@blueprint.post("/failed/<case_id>/requeue", responses={202: FailedCaseOut, **problem_responses(404, 409)})
@allow(Role.ADMIN)
def requeue_failed(path: CasePath) -> Response:
    """Give a failed case three new attempts.

    It is analysed alone, at the end of its clinic's queue.
    """
    case_id = parse_case_id(path.case_id)
    with changing("case.requeued", case_id) as (session, now):
        case = cases.requeue_case(session, case_id, now)
    services().doorbell.ring()
    return answer(FailedCaseOut.of(case), 202)
