"""The routes for reviews of a case, and for who has it open."""

from uuid import UUID

from flask import Response

from api.answers import answer, parse_case_id
from api.auth import allow, caller
from api.blueprints import guarded_blueprint
from api.bodies import reads_body
from api.problems import problem_responses
from api.schemas import CasePath
from api.services import services
from api.worklist_schemas import OpenedOut, ReviewHeader, ReviewIn, ReviewOut, ReviewsOut
from shared.database import read_clock
from shared.domain import Caller, Review, Role
from shared.errors import RequestInvalid
from shared.store import reviews, trail

blueprint = guarded_blueprint("reviews", "/v1/cases", "Reviewers' verdicts on a case.")


@blueprint.get("/<case_id>/review", responses={200: ReviewsOut, **problem_responses(404)})
@allow(Role.REVIEWER)
def read_review(path: CasePath) -> Response:
    """Read a case's reviews."""
    with services().database.reading() as session:
        found = reviews.read_reviews(session, caller(), parse_case_id(path.case_id))
    stands = found.stands and ReviewOut.of(found.stands)
    response = answer(ReviewsOut(review=stands, earlier=[ReviewOut.of(review) for review in found.earlier]), 200)
    response.set_etag(str(found.version))
    return response


@blueprint.put(
    "/<case_id>/review",
    responses={
        200: ReviewOut,
        **problem_responses(
            400,
            404,
            413,
            case_not_reviewable=409,
            review_changed=412,
            content_type_unsupported=415,
            precondition_missing=428,
        ),
    },
)
@allow(Role.REVIEWER)
@reads_body(json=ReviewIn)
def put_review(sent: ReviewIn, path: CasePath, header: ReviewHeader) -> Response:
    """Review a case.

    Send the ETag that you have read: if the case was reviewed or analysed again since, nothing changes and the answer
    is 412.
    """
    case_id = parse_case_id(path.case_id)
    review = save_review(caller(), case_id, sent, _expected_version(header))
    response = answer(ReviewOut.of(review), 200)
    response.set_etag(str(review.version))
    return response


@blueprint.post("/<case_id>/open", responses={200: OpenedOut, **problem_responses(404)})
@allow(Role.REVIEWER)
def open_case(path: CasePath) -> Response:
    """Show other reviewers for ten minutes that you have this case open, and learn who else has.

    This locks nothing.
    """
    case_id = parse_case_id(path.case_id)
    with services().database.writing() as session:
        open_with = reviews.note_opened(session, caller(), case_id, read_clock(session))
    return answer(OpenedOut(open_with=open_with), 200)


def save_review(reviewer: Caller, case_id: UUID, sent: ReviewIn, expected_version: int) -> Review:
    """Add a review to a case and to the audit trail.

    Raises:
        NotFound, Conflict: see `add_review`.
    """
    with services().database.writing() as session:
        now = read_clock(session)
        review = reviews.add_review(
            session, reviewer, case_id, expected_version, sent.verdict, sent.label, sent.note, now
        )
        reviews.note_closed(session, reviewer, case_id)
        if review.reviewed_at == now:  # not a repeat of the review that stands
            trail.audit(session, reviewer, f"review.{review.verdict}", [case_id], now)
    return review


def _expected_version(header: ReviewHeader) -> int:
    if header.if_match is None and header.if_none_match is None:
        raise RequestInvalid(
            "precondition_missing",
            "Send If-Match with the ETag of the reviews that you have read. For the first review of a case that was"
            " analysed once, If-None-Match: * will do.",
        )
    if header.if_match is not None and header.if_none_match is not None:
        raise RequestInvalid("precondition_malformed", "Send either If-Match or If-None-Match: *, not both.")
    return int((header.if_match or '"0"').strip('"'))
