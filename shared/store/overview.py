"""The queue in numbers: what waits and runs, and what ended in the last hours."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import Integer, case, cast, extract, func, select
from sqlalchemy.orm import Session

from shared.domain import State
from shared.service_tables import DeliveryRow
from shared.tables import CaseRow, ClinicRow

_ANALYSED = (State.SUCCEEDED, State.REJECTED, State.FAILED)
_POSTPONED_BRIEFLY = timedelta(seconds=10)
"""Only a case whose photograph alone is inaccessible is postponed for longer (`worker/triage.py`)."""


@dataclass(frozen=True)
class ClinicLoad:
    """A clinic's waiting and running cases. `oldest` and `oldest_running`: when the oldest of each were submitted.

    `longest_wait_since`: the start of the longest wait for a worker; None: none. A case whose photograph is
    inaccessible does not wait for one, and a case that is tried again, alone, waits anew.
    """

    clinic_id: UUID
    name: str
    waiting: int = 0
    running: int = 0
    oldest: datetime | None = None
    oldest_running: datetime | None = None
    longest_wait_since: datetime | None = None


@dataclass(frozen=True)
class Hour:
    """What ended within one clock hour (UTC), with the median and 95th percentile of seconds from submission to end."""

    start: datetime
    succeeded: int
    rejected: int
    failed: int
    median_s: float
    p95_s: float


def list_loads(session: Session, now: datetime) -> Sequence[ClinicLoad]:
    """Return the clinics with waiting or running cases, those with most waiting first."""
    since = case((CaseRow.alone, CaseRow.available_at), else_=CaseRow.submitted_at)
    longest_wait_since = func.min(case((CaseRow.available_at <= now + _POSTPONED_BRIEFLY, since)))
    waiting = {
        clinic_id: figures
        for clinic_id, *figures in session.execute(
            select(CaseRow.clinic_id, func.count(), func.min(CaseRow.submitted_at), longest_wait_since)
            .where(CaseRow.state == State.QUEUED)
            .group_by(CaseRow.clinic_id)
        )
    }
    # Counted here, since they are few, and found by their leases: else SQLite would walk an index of all cases.
    leased = CaseRow.state == State.RUNNING, CaseRow.lease_expires_at.is_not(None)
    running = defaultdict(list)
    for clinic_id, submitted_at in session.execute(select(CaseRow.clinic_id, CaseRow.submitted_at).where(*leased)):
        running[clinic_id].append(submitted_at)
    loads = [
        ClinicLoad(
            clinic_id, name, number, len(running[clinic_id]), oldest, min(running[clinic_id], default=None), waits_since
        )
        for clinic_id, name in session.execute(select(ClinicRow.id, ClinicRow.name))
        for number, oldest, waits_since in [waiting.get(clinic_id, (0, None, None))]
        if number or clinic_id in running
    ]
    return sorted(loads, key=lambda load: (-load.waiting, load.name))


def count_arrivals(session: Session, since: datetime) -> int:
    """Return how many cases were submitted since then."""
    return session.scalar(select(func.count()).select_from(CaseRow).where(CaseRow.submitted_at >= since))


def count_failed(session: Session) -> int:
    """Return how many failed cases no reviewer has reviewed."""
    listed = CaseRow.deleted_at.is_(None), CaseRow.erased_at.is_(None)  # the index needs both
    failed = select(func.count()).select_from(CaseRow).where(CaseRow.state == State.FAILED, *listed)
    return session.scalar(failed.where(~CaseRow.reviewed))


def find_chores(session: Session) -> dict[str, datetime | None]:
    """Return, for each kind of chore that beat schedules, since when its oldest item is due; None: nothing is."""
    return {
        "message": session.scalar(select(func.min(DeliveryRow.due_at))),
        "erasure": session.scalar(
            select(func.min(CaseRow.deleted_at)).where(CaseRow.deleted_at.is_not(None), CaseRow.erased_at.is_(None))
        ),
    }


def list_hours(session: Session, now: datetime, hours: int) -> Sequence[Hour]:
    """Return the last hours in which something ended, oldest first; this hour counts as one."""
    since = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=hours - 1)
    hour, latency_s = _hour_and_latency(session)
    ended = (
        select(hour.label("hour"), CaseRow.state, latency_s.label("latency_s"))
        .add_columns(
            func.row_number().over(partition_by=hour, order_by=latency_s).label("rank"),
            func.count().over(partition_by=hour).label("number"),
        )
        .where(CaseRow.finished_at >= since, CaseRow.state.in_(_ANALYSED))
        .subquery()
    )
    rows = session.execute(
        select(
            ended.c.hour,
            *(func.count(case((ended.c.state == state, 1))) for state in _ANALYSED),
            *(func.min(case((ended.c.rank * 100 >= ended.c.number * share, ended.c.latency_s))) for share in (50, 95)),
        )
        .group_by(ended.c.hour)
        .order_by(ended.c.hour)
    )
    return [
        Hour(datetime.fromtimestamp(int(hour) * 3600, UTC), *counts, float(median_s), float(p95_s))
        for hour, *counts, median_s, p95_s in rows
    ]


def _hour_and_latency(session: Session) -> tuple:
    """Return SQL for the hours from 1970 to a case's end, and for the seconds from its submission to its end."""
    if session.get_bind().dialect.name == "postgresql":
        took = CaseRow.finished_at - CaseRow.submitted_at
        return func.floor(extract("epoch", CaseRow.finished_at) / 3600), extract("epoch", took)
    days = func.julianday(CaseRow.finished_at) - func.julianday(CaseRow.submitted_at)
    return cast(func.strftime("%s", CaseRow.finished_at), Integer) // 3600, days * 86_400
