"""The objects that rows promise to be in the object store, the cases whose objects are to be erased, and orphans."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import select, tuple_, update
from sqlalchemy.orm import Session

from shared.tables import AnalysisRow, CaseRow


class PromisedObject(NamedTuple):
    """One object that a case points to."""

    case_id: UUID
    what: Literal["photograph", "heatmap"]
    key: str


def list_promised(session: Session) -> Sequence[PromisedObject]:
    """Return every object that an undeleted case points to: its photograph, and its recorded overlay."""
    alive = CaseRow.deleted_at.is_(None)
    photographs = select(CaseRow.id, CaseRow.photograph_key).where(alive)
    overlays = select(AnalysisRow.case_id, AnalysisRow.overlay_key).join(CaseRow).where(alive)
    return [
        PromisedObject(case_id, what, key)
        for what, query in (("photograph", photographs), ("heatmap", overlays))
        for case_id, key in session.execute(query)
    ]


class DeletedCase(NamedTuple):
    """A deleted case whose objects are not yet known to be erased."""

    deleted_at: datetime
    case_id: UUID
    clinic_id: UUID


def list_to_erase(
    session: Session, deleted_before: datetime, limit: int, after: DeletedCase | None = None
) -> Sequence[DeletedCase]:
    """Return the next deleted cases whose objects are not yet known to be erased, oldest first, after the given one."""
    place = tuple_(CaseRow.deleted_at, CaseRow.id)
    query = (
        select(CaseRow.deleted_at, CaseRow.id, CaseRow.clinic_id)
        .where(CaseRow.deleted_at < deleted_before, CaseRow.erased_at.is_(None))
        .order_by(CaseRow.deleted_at, CaseRow.id)
        .limit(limit)
    )
    if after is not None:
        query = query.where(place > tuple_(*after[:2], types=(CaseRow.deleted_at.type, CaseRow.id.type)))
    return [DeletedCase(*row) for row in session.execute(query)]


def is_erased(session: Session, case_id: UUID) -> bool:
    """Return whether a deleted case's objects are known to be gone."""
    return session.scalar(select(CaseRow.erased_at.is_not(None)).where(CaseRow.id == case_id))


def mark_erased(session: Session, case_id: UUID, now: datetime) -> None:
    """Record that a deleted case's objects are gone."""
    session.execute(update(CaseRow).where(CaseRow.id == case_id).values(erased_at=now))


def find_known(session: Session, case_ids: Collection[UUID]) -> dict[UUID, bool]:
    """Return those of the ids that are cases, each with whether its objects were erased."""
    found = session.execute(select(CaseRow.id, CaseRow.erased_at).where(CaseRow.id.in_(case_ids)))
    return {row.id: row.erased_at is not None for row in found}


def is_any_submitted(session: Session, since: datetime, until: datetime) -> bool:
    """Tell whether any case was submitted in this period; it may have been deleted since."""
    found = select(CaseRow.id).where(CaseRow.submitted_at.between(since, until))
    return session.scalar(found.order_by(CaseRow.submitted_at).limit(1)) is not None  # without an order, a scan
