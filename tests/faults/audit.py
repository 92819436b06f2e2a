"""What became of every accepted case, according to SQL and the object store, not the API."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from shared.database import Database
from shared.domain import State
from shared.tables import AnalysisRow, CaseRow
from tests.faults.load import Load


@dataclass(frozen=True)
class Trace:
    """One row, and the overlay of its result if it has one."""

    id: str
    reference: str
    state: State
    attempts: int
    error_code: str | None
    submitted_at: datetime
    finished_at: datetime | None
    photograph_key: str
    overlay_key: str | None

    @property
    def ending(self) -> tuple[State, str | None]:
        """What the clinic sees once the case is final; it must never change."""
        return self.state, self.overlay_key


@dataclass(frozen=True)
class Outcome:
    """One line of the table. Delays and recovery in seconds."""

    fault: str
    flavour: str
    times: int
    cases: int
    lost: int
    duplicated: int
    stuck: int
    failed: int
    orphaned: int
    longest_delay_s: float
    recovery_s: float | None


# From the rows at the end to seconds; None if nothing was left to recover.
Recovery = Callable[[Sequence[Trace]], float | None]


def read_traces(database: Database, load: Load) -> Sequence[Trace]:
    """Read every row of the load's clinics."""
    columns = [getattr(CaseRow, name) for name in Trace.__dataclass_fields__ if name != "overlay_key"]
    query = select(*columns, AnalysisRow.overlay_key).outerjoin(AnalysisRow, AnalysisRow.case_id == CaseRow.id)
    with database.reading() as session:
        rows = session.execute(query.where(CaseRow.clinic_id.in_([clinic.id for clinic in load.clinics]))).mappings()
        return [Trace(**{**row, "id": str(row["id"]), "state": State(row["state"])}) for row in rows]


def audit(load: Load, traces: Sequence[Trace], keys: set[str]) -> dict:
    """Count what must not be. `keys` are those of the load's objects."""
    by_id = {trace.id: trace for trace in traces}
    rows_of = Counter(trace.reference for trace in traces)
    final = [trace for trace in traces if trace.state.is_final]
    named = {trace.photograph_key for trace in traces} | {trace.overlay_key for trace in traces}
    return {
        "cases": len(load.accepted),
        "lost": sum(not _is_kept(by_id.get(case_id), keys) for case_id in load.accepted.values()),
        "duplicated": sum(rows > 1 for rows in rows_of.values()) + sum(len(seen) > 1 for seen in load.endings.values()),
        "stuck": len(traces) - len(final),
        "failed": sum(trace.state is State.FAILED for trace in final),
        "orphaned": len(keys - named),
        "longest_delay_s": max(((t.finished_at - t.submitted_at).total_seconds() for t in final), default=0.0),
    }


def _is_kept(trace: Trace | None, keys: set[str]) -> bool:
    if trace is None or trace.photograph_key not in keys:
        return False
    return trace.state is not State.SUCCEEDED or trace.overlay_key in keys


def until_first_end(healed_at: datetime) -> Recovery:
    """Return what measures how long after a fault was healed the next case ended."""

    def measure(traces: Sequence[Trace]) -> float | None:
        later = [t.finished_at for t in traces if t.finished_at and t.finished_at >= healed_at]
        return (min(later) - healed_at).total_seconds() if later else None

    return measure


def until_work_moves_again(struck: Sequence[str], killed_at: datetime) -> Recovery:
    """Return what measures how long after a worker was killed the first of the cases that it held ended."""

    def measure(traces: Sequence[Trace]) -> float | None:
        ends = [t.finished_at for t in traces if t.id in struck and t.finished_at]
        return (min(ends) - killed_at).total_seconds() if ends else None

    return measure
