"""Steps of a case's life, each in a transaction of its own, at a time that the test chooses."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

from sqlalchemy import RowMapping, select

from shared.database import Database
from shared.domain import (
    ActivationMaps,
    Analysis,
    Case,
    Decision,
    Lease,
    OperatingPoint,
    Problem,
    State,
)
from shared.object_keys import overlay_key
from shared.store import cases, models, queue
from shared.tables import AnalysisRow, CaseRow
from tests.factories import new_case

MAPS = ActivationMaps(b"\0" * 12, 1, 1)
POINT = OperatingPoint(name="sensitive", threshold=0.2, sensitivity=0.9, specificity=0.7)
MODEL = "d" * 64
NOT_SKIN = Problem(State.REJECTED, "not_skin", "This is no photograph of skin.")


def at(seconds: float) -> datetime:
    return datetime(2026, 3, 1, tzinfo=UTC) + timedelta(seconds=seconds)


def submit(database: Database, clinic_id: UUID, seconds: float = 0, **changes) -> Case:
    with database.writing() as session:
        return cases.add_case(session, new_case(clinic_id, **changes), at(seconds))


def claim(database: Database, limit: int = 100, seconds: float = 0, lease_s: float = 60) -> Sequence[Lease]:
    with database.writing() as session:
        return queue.claim_cases(session, limit, lease_s, at(seconds))


def analysis_of(lease: Lease, key: str | None = None) -> Analysis:
    key = key or overlay_key(lease.clinic_id, lease.case_id, lease.token)
    return Analysis((0.7, 0.2, 0.1), Decision.REFER, POINT, MODEL, "squash-256-jpeg-bilinear-224", "0.1.0", (), key)


def record(database: Database, lease: Lease, seconds: float = 1, key: str | None = None) -> bool:
    with database.writing() as session:
        recorded = queue.record_analyses(session, [(lease, analysis_of(lease, key), MAPS)], at(seconds))
    return lease.case_id in recorded.written | recorded.standing


def reject(database: Database, lease: Lease, seconds: float = 1) -> bool:
    with database.writing() as session:
        return queue.record_problem(session, lease, NOT_SKIN, at(seconds))


def give_back(database: Database, lease: Lease, seconds: float = 0, alone: bool = False, counted: bool = False) -> bool:
    with database.writing() as session:
        return queue.return_case(session, lease, at(seconds), alone=alone, counted=counted)


def sweep(database: Database, seconds: float) -> queue.Sweep:
    with database.writing() as session:
        return queue.sweep_leases(session, at(seconds))


def stored(database: Database, case_id: UUID) -> RowMapping:
    with database.reading() as session:
        return session.execute(select(CaseRow.__table__).where(CaseRow.id == case_id)).mappings().one()


def overlays(database: Database) -> dict[UUID, str]:
    with database.reading() as session:
        found = [tuple(row) for row in session.execute(select(AnalysisRow.case_id, AnalysisRow.overlay_key))]
    assert len(dict(found)) == len(found)
    return dict(found)


def load_model(database: Database) -> None:
    with database.writing() as session:
        models.activate_model(session, MODEL, {"name": "made-up", "version": "1.0"}, "# Card", at(0))
