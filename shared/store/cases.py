"""Cases as clinics see them: submit, read, list, cancel, delete."""

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, Select, bindparam, delete, func, insert, literal, select, text, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, joinedload, undefer

from shared.domain import ActivationMaps, Caller, Case, NewCase, Priority, Role, State
from shared.errors import Conflict, NotFound
from shared.service_tables import OpeningRow, ReviewRow
from shared.store import submissions
from shared.store.case_rows import to_case, visible_cases
from shared.tables import AnalysisRow, CaseRow

_URGENCY = {Priority.URGENT: 0, Priority.ROUTINE: 1}

# The queries of every submission and every poll, built once: `shared.store.case_rows` says why.
_CASES = CaseRow.__table__
_OF_CLINIC = _CASES.c.clinic_id == bindparam("clinic_id")
_READ = visible_cases(None).where(_CASES.c.id == bindparam("case_id"))
_READ_OF_CLINIC = _READ.where(_OF_CLINIC)
_FIND_BY_KEY = (
    visible_cases(None)
    .where(_OF_CLINIC, _CASES.c.idempotency_key == bindparam("idempotency_key"))
    .add_columns(_CASES.c.request_sha256)
)
_WAITING = text("cases.state = 'queued'")  # exactly as in the indexes, so that these alone are used
_WAITING_OF_CLINIC = (
    select(literal(1))
    .select_from(_CASES)
    .where(_WAITING, _OF_CLINIC)
    .order_by(_CASES.c.urgency, _CASES.c.turn)  # or PostgreSQL scans all cases
    .limit(bindparam("at_most"))
)
_COUNT_WAITING_OF = select(func.count()).select_from(_WAITING_OF_CLINIC.subquery())
_SAME_URGENCY = (_WAITING, _CASES.c.urgency == bindparam("urgency"))
_FIRST_TURN = select(func.min(_CASES.c.turn)).where(*_SAME_URGENCY)
_NEVER_CAME_BACK = _CASES.c.available_at == _CASES.c.submitted_at
_TURNS = select(
    select(func.max(_CASES.c.turn)).where(*_SAME_URGENCY, _OF_CLINIC).scalar_subquery().label("own_last"),
    func.coalesce(_FIRST_TURN.where(_NEVER_CAME_BACK).scalar_subquery(), _FIRST_TURN.scalar_subquery()).label("served"),
)
_ADD = insert(_CASES)


@dataclass(frozen=True)
class CaseFilter:
    """Which cases a list shows. `before` is the (submitted_at, id) of the previous page's last case."""

    state: State | None = None
    reference: str | None = None
    before: tuple[datetime, UUID] | None = None


def add_case(session: Session, case: NewCase, now: datetime) -> Case:
    """Put a new case in the queue.

    Raises:
        Conflict: `idempotency_key_taken`: another request with the same key came first.
    """
    turn = _next_turn(session, case.clinic_id, _URGENCY[case.priority])
    try:
        session.execute(_ADD, _to_values(case, now) | {"turn": turn})
    except IntegrityError as error:
        if case.idempotency_key is None:
            raise
        raise Conflict("idempotency_key_taken", "Another request with this Idempotency-Key came first.") from error
    return Case(
        id=case.id,
        clinic_id=case.clinic_id,
        state=State.QUEUED,
        version=1,
        priority=case.priority,
        reference=case.reference,
        age=case.age,
        sex=case.sex,
        site=case.site,
        photograph=case.photograph,
        submitted_at=now,
        finished_at=None,
        problem=None,
        analysis=None,
        model_name=None,
        model_version=None,
    )


def _next_turn(session: Session, clinic_id: UUID, urgency: int) -> int:
    """Start-time fair queueing (Goyal, Vin, Cheng 1996): a clinic's next turn follows its own last waiting one, but is
    never earlier than the turn that is being served, so an idle clinic saves up no credit. Two index look-ups.

    A case that came back waits on at a turn that was served before: it counts only if none waits that never did.
    """
    own_last, served = session.execute(_TURNS, {"urgency": urgency, "clinic_id": clinic_id}).one()
    return max(-1 if own_last is None else own_last, -1 if served is None else served - 1) + 1


def find_by_idempotency_key(
    session: Session | Connection, clinic_id: UUID, idempotency_key: str
) -> tuple[Case, str] | None:
    """Return the case that was made with this Idempotency-Key, with its request's digest, or None."""
    row = session.execute(_FIND_BY_KEY, {"clinic_id": clinic_id, "idempotency_key": idempotency_key}).first()
    return None if row is None else (to_case(row), row.request_sha256)


def read_case(session: Session | Connection, caller: Caller | None, case_id: UUID) -> Case:
    """Return a case that this caller may see.

    Raises:
        NotFound: there is none, it was deleted, or it is another clinic's.
    """
    if caller is not None and caller.role is Role.CLINIC:
        row = session.execute(_READ_OF_CLINIC, {"case_id": case_id, "clinic_id": caller.clinic_id}).first()
    else:
        row = session.execute(_READ, {"case_id": case_id}).first()
    if row is None:
        raise _not_found()
    return to_case(row)


def list_cases(session: Session, caller: Caller | None, wanted: CaseFilter, limit: int) -> Sequence[Case]:
    """Return at most `limit` cases, newest first."""
    query = visible_cases(caller).order_by(CaseRow.submitted_at.desc(), CaseRow.id.desc()).limit(limit)
    if wanted.state is not None:
        query = query.where(CaseRow.state == wanted.state, CaseRow.erased_at.is_(None))  # the index needs it
    if wanted.reference is not None:
        decomposed = unicodedata.normalize("NFD", wanted.reference)  # as earlier versions stored what Macs sent
        query = query.where(CaseRow.reference.in_({wanted.reference, decomposed}))
    if wanted.before is not None:
        place = tuple_(CaseRow.submitted_at, CaseRow.id)
        query = query.where(place < tuple_(*wanted.before, types=(CaseRow.submitted_at.type, CaseRow.id.type)))
    return [to_case(row) for row in session.execute(query)]


def read_activation_maps(session: Session, case_id: UUID) -> tuple[ActivationMaps, dict]:
    """Return a result's stored maps and the manifest of the model that made them.

    Raises:
        NotFound: `heatmap_not_ready`: the case has no result.
    """
    row = session.scalar(
        select(AnalysisRow)
        .where(AnalysisRow.case_id == case_id)
        .options(undefer(AnalysisRow.activation_maps), undefer(AnalysisRow.map_height), undefer(AnalysisRow.map_width))
        .options(joinedload(AnalysisRow.model))
    )
    if row is None:
        raise NotFound("heatmap_not_ready", "This case has no result, so it has no heatmap.")
    return ActivationMaps(row.activation_maps, row.map_height, row.map_width), row.model.manifest


def count_waiting_of(session: Session | Connection, clinic_id: UUID, at_most: int) -> int:
    """Return how many cases of a clinic wait; stops counting at `at_most`."""
    return session.scalar(_COUNT_WAITING_OF, {"clinic_id": clinic_id, "at_most": at_most})


def requeue_case(session: Session, case_id: UUID, now: datetime) -> Case:
    """Give a failed case three new attempts, in batches of its own, at the end of its clinic's queue.

    Raises:
        NotFound: see `read_case`.
        Conflict: `case_not_failed`.
    """
    row = _lock_row(session, None, case_id)
    if row.state != State.FAILED:
        raise Conflict("case_not_failed", f"This case is {row.state}; only a failed case can be analysed again.")
    row.turn = _next_turn(session, row.clinic_id, row.urgency)
    row.state, row.attempts, row.alone, row.available_at = State.QUEUED, 0, True, now
    row.finished_at = row.error_code = row.error_detail = row.review_rank = None
    latest = session.scalar(select(func.max(ReviewRow.version)).where(ReviewRow.case_id == case_id)) or 0
    row.reviewed, row.review_base = False, max(latest, row.review_base) + 1
    row.version += 1
    session.flush()
    return read_case(session, None, case_id)


def list_finished_before(session: Session, clinic_id: UUID, moment: datetime, limit: int) -> Sequence[UUID]:
    """Lock and return the ids of a clinic's cases that ended before `moment` and are not deleted, oldest first.

    A case that another transaction is deleting or requeueing is skipped.
    """
    oldest = _finished_before(clinic_id, moment).order_by(CaseRow.finished_at).limit(limit)
    return session.scalars(oldest.with_for_update(skip_locked=True)).all()


def count_outdated(session: Session, clinic_id: UUID, retention_days: int, now: datetime, at_most: int) -> int:
    """Return how many of a clinic's cases a purge would delete at this retention; stops counting at `at_most`."""
    outdated = _finished_before(clinic_id, now - timedelta(days=retention_days)).limit(at_most)
    return session.scalar(select(func.count()).select_from(outdated.subquery()))


def _finished_before(clinic_id: UUID, moment: datetime) -> Select:
    return select(CaseRow.id).where(
        CaseRow.clinic_id == clinic_id, CaseRow.deleted_at.is_(None), CaseRow.finished_at < moment
    )


def cancel_case(session: Session, caller: Caller, case_id: UUID, now: datetime) -> Case:
    """Cancel a case that is not final; if a worker holds it, its result will be refused.

    Raises:
        NotFound: see `read_case`.
        Conflict: `case_is_final`.
    """
    row = _lock_row(session, caller, case_id)
    if State(row.state).is_final:
        raise Conflict(
            "case_is_final", f"This case is final ({row.state}); only a waiting or running case can be cancelled."
        )
    _finish_without_result(row, State.CANCELLED, now)
    session.flush()
    return read_case(session, None, case_id)


def delete_case(session: Session, caller: Caller | None, case_id: UUID, now: datetime) -> None:
    """Remove a case's result and what the clinic entered; the row stays as a tombstone, its objects are erased later.

    Raises:
        NotFound: see `read_case`.
    """
    row = _lock_row(session, caller, case_id)
    if not State(row.state).is_final:
        _finish_without_result(row, State.CANCELLED, now)
    row.reference = row.age = row.sex = row.site = row.idempotency_key = row.traceparent = None
    row.review_rank = row.decision = None
    # A digest identifies a copy of the photograph, and so do its size and sides together.
    row.photograph_key = row.sha256 = row.request_sha256 = ""
    row.width = row.height = row.size_bytes = 0
    row.deleted_at = now
    session.flush()
    submissions.forget_case(session, case_id)
    for of_case in (AnalysisRow, ReviewRow, OpeningRow):
        session.execute(delete(of_case).where(of_case.case_id == case_id))


def forget_sizes(session: Session) -> None:
    """Empty the photograph's size and sides in deleted cases: 0.1.0 keeps them, also during the upgrade from it."""
    kept = CaseRow.deleted_at.is_not(None), CaseRow.width != 0
    session.execute(update(CaseRow).where(*kept).values(width=0, height=0, size_bytes=0))


def _lock_row(session: Session, caller: Caller | None, case_id: UUID) -> CaseRow:
    query = select(CaseRow).where(CaseRow.id == case_id, CaseRow.deleted_at.is_(None))
    if caller is not None and caller.role is Role.CLINIC:
        query = query.where(CaseRow.clinic_id == caller.clinic_id)
    row = session.scalar(query.with_for_update())
    if row is None:
        raise _not_found()
    return row


def _not_found() -> NotFound:
    return NotFound("case_not_found", "There is no such case.")


def _finish_without_result(row: CaseRow, state: State, now: datetime) -> None:
    row.state, row.finished_at = state, now
    row.version += 1
    row.lease_token = row.lease_expires_at = None


def _to_values(case: NewCase, now: datetime) -> dict[str, object]:
    """Return the values of a new case's columns, except its turn."""
    photograph = case.photograph
    return {
        "id": case.id,
        "clinic_id": case.clinic_id,
        "state": State.QUEUED,
        "version": 1,
        "priority": case.priority,
        "urgency": _URGENCY[case.priority],
        "reference": case.reference,
        "age": case.age,
        "sex": case.sex,
        "site": case.site,
        "photograph_key": photograph.key,
        "media_type": photograph.media_type,
        "width": photograph.width,
        "height": photograph.height,
        "size_bytes": photograph.size_bytes,
        "sha256": photograph.sha256,
        "idempotency_key": case.idempotency_key,
        "request_sha256": case.request_sha256,
        "traceparent": case.traceparent,
        "submitted_at": now,
        "available_at": now,
        "attempts": 0,
        "alone": False,
        "reviewed": False,
    }
