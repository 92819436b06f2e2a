"""Photographs that a clinic sent together: which case each became, or why it was refused."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from shared.domain import REFERENCE_LENGTH, State
from shared.errors import Conflict, NotFound
from shared.tables import CaseRow, SubmissionItemRow, SubmissionRow

_CASES = (
    select(CaseRow.id)
    .join(SubmissionItemRow, SubmissionItemRow.case_id == CaseRow.id)
    .where(SubmissionItemRow.submission_id == SubmissionRow.id)
)
_HAD_CASE, _HAS_CASE = _CASES.exists(), _CASES.where(CaseRow.deleted_at.is_(None)).exists()
_FORGET_REQUEST = (
    update(SubmissionRow)
    .values(request_sha256="", idempotency_key=None)
    .where(~_HAS_CASE)
    .execution_options(synchronize_session=False)
)
"""Of submissions that have no case left, besides further conditions."""


@dataclass(frozen=True)
class Item:
    """One photograph of a submission. `state` is its case's; a refused photograph has no case but an error."""

    position: int
    name: str
    case_id: UUID | None
    state: State | None
    error_code: str | None
    error_detail: str | None


@dataclass(frozen=True)
class Submission:
    """The outcome of the photographs processed so far; `is_complete`: of all of them."""

    id: UUID
    is_complete: bool
    items: Sequence[Item]

    @property
    def is_final(self) -> bool:
        return self.is_complete and all(item.state is None or item.state.is_final for item in self.items)


def add_submission(
    session: Session,
    submission_id: UUID,
    clinic_id: UUID,
    idempotency_key: str | None,
    request_sha256: str,
    now: datetime,
) -> None:
    """Record that the photographs of a submission are being processed.

    Raises:
        Conflict: `idempotency_key_taken`: another request with the same key came first.
    """
    row = SubmissionRow(id=submission_id, clinic_id=clinic_id, created_at=now)
    row.idempotency_key, row.request_sha256 = idempotency_key, request_sha256
    session.add(row)
    try:
        session.flush()
    except IntegrityError as error:
        if idempotency_key is None:
            raise
        raise Conflict("idempotency_key_taken", "Another request with this Idempotency-Key came first.") from error


def find_begun(
    session: Session, clinic_id: UUID, idempotency_key: str | None, request_sha256: str
) -> tuple[UUID, str] | None:
    """Return (id, request's digest) of the submission that a request continues, or None if it is a new one.

    That is the one with its Idempotency-Key. Without a key, it is an unfinished one of the same request: nobody got an
    answer about it, and sending it again must not duplicate its cases.
    """
    query = select(SubmissionRow.id, SubmissionRow.request_sha256).where(
        SubmissionRow.clinic_id == clinic_id, SubmissionRow.idempotency_key == idempotency_key
    )
    if idempotency_key is None:
        query = query.where(SubmissionRow.request_sha256 == request_sha256, SubmissionRow.finished_at.is_(None))
    row = session.execute(query.order_by(SubmissionRow.created_at).limit(1)).first()
    return None if row is None else (row.id, row.request_sha256)


def list_positions(session: Session, submission_id: UUID) -> set[int]:
    """Return the positions of the photographs already processed."""
    return set(
        session.scalars(select(SubmissionItemRow.position).where(SubmissionItemRow.submission_id == submission_id))
    )


def add_item(
    session: Session,
    submission_id: UUID,
    position: int,
    name: str,
    case_id: UUID | None = None,
    error: tuple[str, str] | None = None,
) -> None:
    """Record the case that a photograph became, or the (code, sentence) with which it was refused.

    Raises:
        Conflict: `item_taken`: another request with the same key came first.
    """
    row = SubmissionItemRow(
        submission_id=submission_id, position=position, name=name[:REFERENCE_LENGTH], case_id=case_id
    )
    row.error_code, row.error_detail = error or (None, None)
    session.add(row)
    try:
        session.flush()
    except IntegrityError as failure:
        raise Conflict("item_taken", "Another request has already processed this photograph.") from failure


def finish_submission(session: Session, submission_id: UUID, now: datetime) -> None:
    """Record that every photograph was processed."""
    session.execute(
        update(SubmissionRow)
        .where(SubmissionRow.id == submission_id, SubmissionRow.finished_at.is_(None))
        .values(finished_at=now)
    )
    session.execute(_FORGET_REQUEST.where(SubmissionRow.id == submission_id, _HAD_CASE))


def forget_case(session: Session, case_id: UUID) -> None:
    """Remove the file name of a deleted case; with a submission's last case, also its digest and key, which identify
    copies of its photographs.

    An unfinished submission keeps both: without them, the same request would begin anew and bring the case back.
    """
    of_case = SubmissionItemRow.case_id == case_id
    session.execute(update(SubmissionItemRow).where(of_case).values(name=""))
    sent_with = SubmissionRow.id.in_(select(SubmissionItemRow.submission_id).where(of_case))
    # Locked first: of two deletions at once, the second must see the first.
    session.execute(select(SubmissionRow.id).where(sent_with).with_for_update())
    session.execute(_FORGET_REQUEST.where(sent_with, SubmissionRow.finished_at.is_not(None)))


def forget_abandoned(session: Session, begun_before: datetime) -> None:
    """Remove what no deletion of a case removes: the names of refused photographs, which may name a patient, and the
    digests and keys of submissions that were never finished and have no case left.
    """
    begun = SubmissionRow.created_at < begun_before
    in_begun = SubmissionItemRow.submission_id.in_(select(SubmissionRow.id).where(begun))
    refused = in_begun, SubmissionItemRow.case_id.is_(None), SubmissionItemRow.name != ""
    session.execute(update(SubmissionItemRow).where(*refused).values(name=""))
    unfinished = SubmissionRow.finished_at.is_(None), SubmissionRow.request_sha256 != ""
    session.execute(_FORGET_REQUEST.where(begun, *unfinished))


def read_submission(session: Session, clinic_id: UUID, submission_id: UUID) -> Submission:
    """Return a clinic's submission; photographs whose case was deleted are left out.

    Raises:
        NotFound: there is none, or it is another clinic's.
    """
    row = session.scalar(
        select(SubmissionRow).where(SubmissionRow.id == submission_id, SubmissionRow.clinic_id == clinic_id)
    )
    if row is None:
        raise NotFound("submission_not_found", "There is no such submission.")
    found = session.execute(
        select(SubmissionItemRow, CaseRow.state, CaseRow.error_code, CaseRow.error_detail)
        .outerjoin(CaseRow)
        .where(SubmissionItemRow.submission_id == submission_id)
        .where(or_(SubmissionItemRow.case_id.is_(None), CaseRow.deleted_at.is_(None)))
        .order_by(SubmissionItemRow.position)
    )
    return Submission(row.id, row.finished_at is not None, [_to_item(*columns) for columns in found])


def _to_item(row: SubmissionItemRow, state: str | None, code: str | None, detail: str | None) -> Item:
    return Item(
        position=row.position,
        name=row.name,
        case_id=row.case_id,
        state=State(state) if state else None,
        error_code=row.error_code or code,
        error_detail=row.error_detail or detail,
    )
