"""Cases as workers and the sweeper see them: claim under a lease, record once, give back, sweep."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, update
from sqlalchemy.orm import Session

from shared.domain import (
    CLASSES,
    ActivationMaps,
    Analysis,
    Lease,
    Problem,
    State,
    problem_after_lost_lease,
    rank_for_review,
)
from shared.tables import AnalysisRow, CaseRow


@dataclass(frozen=True)
class Sweep:
    """What a sweep did with the leases that ran out: how many cases were given back, and which were given up on."""

    returned: int
    failed: Sequence[UUID]


def claim_cases(session: Session, limit: int, lease_s: float, now: datetime) -> Sequence[Lease]:
    """Lease up to `limit` waiting cases to the caller: urgent first, clinics in turn, oldest first.

    A case that must be tried alone is returned by itself. No two callers get the same case: PostgreSQL skips the rows
    that another transaction has locked, SQLite has one writer at a time.
    """
    head = session.execute(
        select(CaseRow.id, CaseRow.alone)
        .where(CaseRow.state == State.QUEUED, CaseRow.available_at <= now)
        .order_by(CaseRow.urgency, CaseRow.turn, CaseRow.submitted_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
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
        .returning(CaseRow.traceparent)
        .execution_options(synchronize_session=False)
    )
    return [
        Lease(row.id, token, row.clinic_id, row.photograph_key, row.attempts, row.alone, expires_at, row.traceparent)
        for row in claimed
    ]


def record_analysis(session: Session, lease: Lease, analysis: Analysis, maps: ActivationMaps, now: datetime) -> bool:
    """Write a result and end its case, or return False when the lease is no longer the caller's.

    Recording the same result again is fine: whoever lost the connection during a commit cannot know how it ended.
    """
    rank = rank_for_review(CaseRow.urgency, analysis.melanoma_probability)
    ended = {"state": State.SUCCEEDED, "finished_at": now, "review_rank": rank, "decision": analysis.decision}
    if not _end_lease(session, lease, **ended):
        stands = session.scalar(select(AnalysisRow.overlay_key).where(AnalysisRow.case_id == lease.case_id))
        return stands == analysis.overlay_key
    session.execute(
        insert(AnalysisRow).values(
            case_id=lease.case_id,
            **dict(zip(CLASSES, analysis.probabilities, strict=True)),
            decision=analysis.decision,
            operating_point=analysis.operating_point.model_dump(),
            model_digest=analysis.model_digest,
            preprocessing=analysis.preprocessing,
            code_version=analysis.code_version,
            warnings=list(analysis.warnings),
            activation_maps=maps.values,
            map_height=maps.height,
            map_width=maps.width,
            overlay_key=analysis.overlay_key,
            plausible=None if analysis.plausible is None else list(analysis.plausible),
        )
    )
    return True


def record_problem(session: Session, lease: Lease, problem: Problem, now: datetime) -> bool:
    """End a case without a result, or return False when the lease is no longer the caller's."""
    return _end_lease(session, lease, **_ended_by(problem, now))


def return_case(session: Session, lease: Lease, available_at: datetime, *, alone: bool, counted: bool) -> bool:
    """Give a leased case back to the queue; an attempt that the case is not to blame for is not counted."""
    return _end_lease(
        session,
        lease,
        state=State.QUEUED,
        available_at=available_at,
        alone=alone,
        attempts=CaseRow.attempts - (0 if counted else 1),
    )


def sweep_leases(session: Session, now: datetime) -> Sweep:
    """Return the cases whose lease ran out to the queue, or fail those that were tried too often."""
    expired = session.execute(
        select(CaseRow.id, CaseRow.attempts)
        .where(CaseRow.state == State.RUNNING, CaseRow.lease_expires_at < now)
        .with_for_update(skip_locked=True)
    ).all()
    failed = []
    for row in expired:
        problem = problem_after_lost_lease(row.attempts)
        if problem is not None:
            failed.append(row.id)
        after = (
            {"state": State.QUEUED, "available_at": now, "alone": True} if problem is None else _ended_by(problem, now)
        )
        session.execute(
            update(CaseRow)
            .where(CaseRow.id == row.id)
            .values(lease_token=None, lease_expires_at=None, version=CaseRow.version + 1, **after)
        )
    return Sweep(len(expired) - len(failed), failed)


def count_waiting(session: Session, now: datetime, at_most: int) -> int:
    """Return how many cases could be claimed now; stops counting at `at_most`, so that no backlog makes it slow."""
    waiting = select(CaseRow.id).where(CaseRow.state == State.QUEUED, CaseRow.available_at <= now).limit(at_most)
    return session.scalar(select(func.count()).select_from(waiting.subquery()))


def _ended_by(problem: Problem, now: datetime) -> dict:
    """Return the columns of a case that ends without a result; a person must look at a failed one."""
    rank = rank_for_review(CaseRow.urgency, None) if problem.state is State.FAILED else None
    ended = {"state": problem.state, "finished_at": now, "review_rank": rank}
    return ended | {"error_code": problem.code, "error_detail": problem.detail}


def _end_lease(session: Session, lease: Lease, **values) -> bool:
    ended = session.execute(
        update(CaseRow)
        .where(CaseRow.id == lease.case_id, CaseRow.lease_token == lease.token)
        .values(lease_token=None, lease_expires_at=None, version=CaseRow.version + 1, **values)
        .execution_options(synchronize_session=False)
    )
    return ended.rowcount == 1
