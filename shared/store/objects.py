"""What the rows promise to be in the object store."""

from collections.abc import Sequence
from typing import Literal, NamedTuple
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from shared.tables import AnalysisRow, CaseRow


class PromisedObject(NamedTuple):
    """One object that a case points to."""

    case_id: UUID
    what: Literal["photograph", "heatmap"]
    key: str


def list_promised(session: Session) -> Sequence[PromisedObject]:
    """Return every object that a case which is not deleted points to: its photograph, and its recorded overlay."""
    alive = CaseRow.deleted_at.is_(None)
    photographs = select(CaseRow.id, CaseRow.photograph_key).where(alive)
    overlays = select(AnalysisRow.case_id, AnalysisRow.overlay_key).join(CaseRow).where(alive)
    return [
        PromisedObject(case_id, what, key)
        for what, query in (("photograph", photographs), ("heatmap", overlays))
        for case_id, key in session.execute(query)
    ]
