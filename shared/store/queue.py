"""Cases as workers and the sweep see them: claim under a lease, record once, return, sweep."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import Connection, Select, Update, func, insert, or_, select, update
from sqlalchemy.orm import Session

from shared.domain import (
    CLASSES,
    LONGEST_LEASE_S,
    ActivationMaps,
    Analysis,
    Lease,
    Problem,
    State,
    problem_after_lost_lease,
    rank_for_review,
)
from shared.store.worklist import of_result
from shared.tables import AnalysisRow, CaseRow


@dataclass(frozen=True)
class Sweep:
    """What a sweep did with expired leases: how many cases returned to the queue, and which failed."""

    returned: int
    failed: Sequence[UUID]


def claim_cases(session: Session, limit: int, lease_s: float, now: datetime) -> Sequence[Lease]:
    """Lease up to `limit` waiting cases to the caller: urgent first, clinics in turn, oldest first.

    A case that must be tried alone is returned by itself. No two callers get the same case: PostgreSQL skips rows that
    another transaction has locked, SQLite has one writer at a time.
    """
    waiting = _claimable(select(CaseRow.id, CaseRow.alone), now)
    head = session.execute(waiting.limit(limit).with_for_update(skip_locked=True)).all()
    if not head:
        return []
    chosen = [head[0].id] if head[0].alone else [row.id for row in head if not row.alone]
    token, expires_at = uuid4(), now + timedelta(seconds=lease_s)
    claimed = session.execute(
        update(CaseRow)
        .where(CaseRow.id.in_(chosen), CaseRow.state == State.QUEUED)
        .values(
            state=State.RUNNING,
            version=CaseRow.version + 1,
            attempts=CaseRow.attempts + 1,
            lease_token=token,
            lease_expires_at=expires_at,
        )
        .returning(CaseRow.id, CaseRow.clinic_id, CaseRow.photograph_key, CaseRow.attempts, CaseRow.alone)
        .returning(CaseRow.submitted_at, CaseRow.traceparent)
        .execution_options(synchronize_session=False)
    )
    return [
        Lease(
            case_id=row.id,
            token=token,
            clinic_id=row.clinic_id,
            photograph_key=row.photograph_key,
            attempt=row.attempts,
            alone=row.alone,
            submitted_at=row.submitted_at,
            expires_at=expires_at,
            traceparent=row.traceparent,
        )
        for row in claimed
    ]


@dataclass(frozen=True)
class Recorded:
    """The cases whose results a call wrote, and those that already had the same results: only the former are news."""

    written: set[UUID]
    standing: set[UUID]


def record_analyses(
    session: Session, found: Sequence[tuple[Lease, Analysis, ActivationMaps]], now: datetime
) -> Recorded:
    """Write a batch's results and end its cases, except those whose lease is no longer the caller's.

    Recording the same result again is fine: a caller that lost its connection during a commit cannot know the outcome.
    """
    held = _lock_held(session, [lease for lease, _, _ in found])
    rows = [_to_row(*each) for each in found if each[0].case_id in held]
    if rows:
        session.execute(insert(AnalysisRow), rows)
        session.execute(_ending(state=State.SUCCEEDED, finished_at=now, **of_result()).where(CaseRow.id.in_(held)))
    late = {lease.case_id: analysis.overlay_key for lease, analysis, _ in found if lease.case_id not in held}
    return Recorded(held, _find_standing(session, late))


def record_problem(session: Session, lease: Lease, problem: Problem, now: datetime) -> bool:
    """End a case without a result, or return False when the lease is no longer the caller's."""
    return _end_lease(session, lease, **_ended_by(problem, now))


def return_case(session: Session, lease: Lease, available_at: datetime, *, alone: bool, counted: bool) -> bool:
    """Return a leased case to the queue; an attempt that failed through no fault of the case is not `counted`."""
    return _end_lease(
        session,
        lease,
        state=State.QUEUED,
        available_at=available_at,
        alone=alone,
        attempts=CaseRow.attempts - (0 if counted else 1),
    )


def sweep_leases(session: Session, now: datetime) -> Sweep:
    """Return the cases whose lease expired to the queue, or fail those that were tried too often.

    A lease that ends later than any can was given before the clock was set back.
    """
    expires_at, latest = CaseRow.lease_expires_at, now + timedelta(seconds=LONGEST_LEASE_S)
    expired = session.execute(
        select(CaseRow.id, CaseRow.attempts)
        .where(CaseRow.state == State.RUNNING, or_(expires_at < now, expires_at > latest))
        .with_for_update(skip_locked=True)
    )
    case_ids = defaultdict(list)
    for row in expired:
        case_ids[problem_after_lost_lease(row.attempts)].append(row.id)
    for problem, alike in case_ids.items():
        back = {"state": State.QUEUED, "available_at": now, "alone": True}
        after = back if problem is None else _ended_by(problem, now)
        session.execute(_ending(**after).where(CaseRow.id.in_(alike)))
    returned = case_ids.pop(None, [])
    return Sweep(len(returned), [case_id for failed in case_ids.values() for case_id in failed])


def bring_forward(session: Session, now: datetime, longest_pause_s: float) -> int:
    """Make cases available that wait longer than any pause: the clock was set back. Return how many."""
    hidden = CaseRow.state == State.QUEUED, CaseRow.available_at > now + timedelta(seconds=longest_pause_s)
    return session.execute(update(CaseRow).where(*hidden).values(available_at=now)).rowcount


def count_waiting(session: Session | Connection, now: datetime, at_most: int) -> int:
    """Return how many cases could be claimed now; stops counting at `at_most`, a few batches."""
    waiting = _claimable(select(CaseRow.id), now).limit(at_most)
    return session.scalar(select(func.count()).select_from(waiting.subquery()))


def count_queued(session: Session | Connection, at_most: int) -> int:
    """Return how many cases wait, those that are postponed included; stops counting at `at_most`.

    What could be claimed among many is not asked, and no order: PostgreSQL would fetch every row, and sort all on disk.
    """
    queued = select(CaseRow.id).where(CaseRow.state == State.QUEUED).limit(at_most)
    return session.scalar(select(func.count()).select_from(queued.subquery()))


def _claimable(query: Select, now: datetime) -> Select:
    """Return the query of claimable cases in the queue's order, which makes it a walk along the index.

    Without an order PostgreSQL hopes for an early match, wherever it begins, and scans all cases that have ended.
    """
    waiting = query.where(CaseRow.state == State.QUEUED, CaseRow.available_at <= now)
    return waiting.order_by(CaseRow.urgency, CaseRow.turn, CaseRow.submitted_at)


def _ended_by(problem: Problem, now: datetime) -> dict:
    """Return the columns of a case that ends without a result; a person must look at a failed one."""
    rank = rank_for_review(CaseRow.urgency, None) if problem.state is State.FAILED else None
    ended = {"state": problem.state, "finished_at": now, "review_rank": rank}
    return ended | {"error_code": problem.code, "error_detail": problem.detail}


def _lock_held(session: Session, leases: Sequence[Lease]) -> set[UUID]:
    """Lock and return the leased cases that are still the caller's; they stay so until the transaction ends."""
    tokens = {lease.case_id: lease.token for lease in leases}
    # In one order, so that two callers that record the same cases cannot deadlock.
    locked = select(CaseRow.id, CaseRow.lease_token).where(CaseRow.id.in_(tokens)).order_by(CaseRow.id)
    return {row.id for row in session.execute(locked.with_for_update()) if row.lease_token == tokens[row.id]}


def _find_standing(session: Session, late: Mapping[UUID, str]) -> set[UUID]:
    """Return those of the cases whose recorded result has this overlay."""
    if not late:
        return set()
    standing = select(AnalysisRow.case_id, AnalysisRow.overlay_key).where(AnalysisRow.case_id.in_(late))
    return {row.case_id for row in session.execute(standing) if row.overlay_key == late[row.case_id]}


def _to_row(lease: Lease, analysis: Analysis, maps: ActivationMaps) -> dict:
    return dict(zip(CLASSES, analysis.probabilities, strict=True)) | {
        "case_id": lease.case_id,
        "decision": analysis.decision,
        "operating_point": analysis.operating_point.model_dump(),
        "model_digest": analysis.model_digest,
        "preprocessing": analysis.preprocessing,
        "code_version": analysis.code_version,
        "warnings": list(analysis.warnings),
        "activation_maps": maps.values,
        "map_height": maps.height,
        "map_width": maps.width,
        "overlay_key": analysis.overlay_key,
        "plausible": None if analysis.plausible is None else list(analysis.plausible),
    }


def _end_lease(session: Session, lease: Lease, **values) -> bool:
    mine = CaseRow.id == lease.case_id, CaseRow.lease_token == lease.token
    return session.execute(_ending(**values).where(*mine)).rowcount == 1


def _ending(**values) -> Update:
    """Return the statement that ends leases and changes their cases; the caller adds the condition."""
    values |= {"lease_token": None, "lease_expires_at": None, "version": CaseRow.version + 1}  # nosec B105  # emptied
    return update(CaseRow).values(values).execution_options(synchronize_session=False)
