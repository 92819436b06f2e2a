"""The reviewers' worklist: cases with a result, and failed cases, which a person must look at; most pressing first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Select, func, select, tuple_, update
from sqlalchemy.orm import Session

from shared.domain import Case, Decision, State, rank_for_review
from shared.store.case_rows import to_case, visible_cases
from shared.tables import UNRANKED, AnalysisRow, CaseRow

COUNTED_AT_MOST = 1000
REVIEWABLE = (State.SUCCEEDED, State.FAILED)
_ORDER = (CaseRow.review_rank, CaseRow.submitted_at, CaseRow.id)

Place = tuple[float, datetime, UUID]
"""Where a case stands in the list: its rank, when it was submitted, its id."""


@dataclass(frozen=True)
class WorklistFilter:
    """Which cases the list shows. `after` is the place of the previous page's last case."""

    reviewed: bool = False
    state: State | None = None
    clinic_id: UUID | None = None
    decision: Decision | None = None
    submitted_from: datetime | None = None
    submitted_before: datetime | None = None
    after: Place | None = None


@dataclass(frozen=True)
class Entry:
    """A case on the list."""

    case: Case
    place: Place
    reviewed: bool


def list_worklist(session: Session, wanted: WorklistFilter, limit: int) -> Sequence[Entry]:
    """Return at most `limit` cases: urgent first, then by melanoma probability, then the longest waiting.

    A failed case ranks as a certain melanoma: nothing is known about it.
    """
    return [
        Entry(to_case(row), (row.review_rank, row.submitted_at, row.id), row.reviewed)
        for row in session.execute(worklist_query(wanted, limit))
    ]


def worklist_query(wanted: WorklistFilter, limit: int) -> Select:
    """Return the query of one page: a walk along an index."""
    visible = visible_cases(None).add_columns(CaseRow.review_rank, CaseRow.reviewed)
    query = _in_order(_matching(visible, wanted), wanted).limit(limit)
    if wanted.after is not None:
        query = query.where(tuple_(*_ORDER) > tuple_(*wanted.after, types=[column.type for column in _ORDER]))
    return query


def count_worklist(session: Session, wanted: WorklistFilter) -> int:
    """Return how many cases match, on all pages together; stops counting at `COUNTED_AT_MOST`."""
    matching = _matching(select(CaseRow.id).where(CaseRow.deleted_at.is_(None)), wanted)
    # In order, or PostgreSQL scans all cases.
    matching = _in_order(matching, wanted).limit(COUNTED_AT_MOST)
    return session.scalar(select(func.count()).select_from(matching.subquery()))


def rank_unranked(session: Session, limit: int) -> int:
    """Rank at most `limit` cases that were ended by a version without reviews; return how many."""
    oldest = select(CaseRow.id).where(UNRANKED).order_by(CaseRow.finished_at).limit(limit)
    unranked = session.scalars(oldest.with_for_update(skip_locked=True)).all()
    session.execute(
        update(CaseRow).where(CaseRow.id.in_(unranked)).values(of_result()).execution_options(synchronize_session=False)
    )
    return len(unranked)


def of_result() -> dict[str, ColumnElement]:
    """Return SQL for the columns of a case that follow from its result, or from its absence."""
    probability, decision = (
        select(column).where(AnalysisRow.case_id == CaseRow.id).scalar_subquery()
        for column in (AnalysisRow.melanoma, AnalysisRow.decision)
    )
    rank = rank_for_review(CaseRow.urgency, func.coalesce(probability, 1.0))
    return {"review_rank": rank, "decision": decision}


def _matching(query: Select, wanted: WorklistFilter) -> Select:
    query = query.where(CaseRow.review_rank.is_not(None), CaseRow.reviewed == wanted.reviewed)
    if wanted.state is not None:
        query = query.where(CaseRow.state == wanted.state)
    if wanted.state is State.FAILED:
        query = query.where(CaseRow.decision.is_(None))  # true of every failed case; see `_in_order`
    if wanted.clinic_id is not None:
        query = query.where(CaseRow.clinic_id == wanted.clinic_id)
    if wanted.decision is not None:
        query = query.where(CaseRow.decision == wanted.decision)
    if wanted.submitted_from is not None:
        query = query.where(CaseRow.submitted_at >= wanted.submitted_from)
    if wanted.submitted_before is not None:
        query = query.where(CaseRow.submitted_at < wanted.submitted_before)
    return query


def _in_order(query: Select, wanted: WorklistFilter) -> Select:
    """Order by a place. Failed cases have no decision: named first, it makes that index's order the one asked for."""
    return query.order_by(CaseRow.decision, *_ORDER) if wanted.state is State.FAILED else query.order_by(*_ORDER)
