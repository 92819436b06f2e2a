"""Reviews of cases, and who has which case open."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from shared.domain import Caller, Review, State, Verdict
from shared.errors import Conflict
from shared.service_tables import OpeningRow, ReviewRow
from shared.store import cases
from shared.store.upsert import upsert
from shared.store.worklist import REVIEWABLE
from shared.tables import ApiKeyRow, CaseRow

OPEN_FOR = timedelta(minutes=10)


@dataclass(frozen=True)
class Reviews:
    """The reviews of a case. `version` grows with each review and requeue: whoever names it has seen everything.

    `stands` is the newest review, unless it is of an earlier attempt; `earlier` are all others, newest first.
    """

    version: int
    stands: Review | None
    earlier: Sequence[Review]


def read_reviews(session: Session, caller: Caller, case_id: UUID) -> Reviews:
    """Return the reviews of a case.

    Raises:
        NotFound: see `read_case`.
    """
    cases.read_case(session, caller, case_id)
    return _read_reviews(session, case_id)


def add_review(
    session: Session,
    caller: Caller,
    case_id: UUID,
    expected_version: int,
    verdict: Verdict,
    label: str | None,
    note: str | None,
    now: datetime,
) -> Review:
    """Review a case, on top of version `expected_version` of its `Reviews`.

    Raises:
        NotFound: see `read_case`.
        Conflict: `case_not_reviewable`: it has no result, and did not fail. `review_changed`: somebody else came first,
            or the case was analysed again.
    """
    cases.read_case(session, caller, case_id)
    reviewable = CaseRow.id == case_id, CaseRow.deleted_at.is_(None), CaseRow.state.in_(REVIEWABLE)
    # This update also locks the row: of two reviewers, the second reads what the first has written.
    if not session.execute(update(CaseRow).where(*reviewable).values(reviewed=True)).rowcount:
        raise Conflict("case_not_reviewable", "Only a case that has a result, or that failed, can be reviewed.")
    found = _read_reviews(session, case_id)
    stands, version = found.stands, found.version
    if stands and version == expected_version + 1:
        prefix = session.scalar(select(ApiKeyRow.prefix).where(ApiKeyRow.id == caller.key_id))
        if (stands.reviewer, stands.verdict, stands.label, stands.note) == (prefix, verdict, label, note):
            return stands  # the same was sent twice, as by a double click
    if version != expected_version:
        meanwhile = (
            "This case has been reviewed in the meantime. Read that review first."
            if stands
            else "This case was analysed again in the meantime. Look at the outcome first."
        )
        raise Conflict("review_changed", meanwhile)
    row = ReviewRow(case_id=case_id, version=version + 1, verdict=verdict, label=label, note=note)
    row.key_id, row.reviewed_at = caller.key_id, now
    session.add(row)
    session.flush()
    return _read_reviews(session, case_id).stands


def note_opened(session: Session, caller: Caller, case_id: UUID, now: datetime) -> Sequence[str]:
    """Record that a reviewer has a case open, for ten minutes; return the key prefixes of others who do.

    Raises:
        NotFound: see `read_case`.
    """
    cases.read_case(session, caller, case_id)
    session.execute(delete(OpeningRow).where(OpeningRow.case_id == case_id, OpeningRow.seen_at <= now - OPEN_FOR))
    opening = {"case_id": case_id, "key_id": caller.key_id, "seen_at": now}
    upsert(session, OpeningRow, opening, changed=["seen_at"])
    return list_open(session, caller, [case_id], now).get(case_id, [])


def note_closed(session: Session, caller: Caller, case_id: UUID) -> None:
    """Record that a reviewer is done with a case."""
    session.execute(delete(OpeningRow).where(OpeningRow.case_id == case_id, OpeningRow.key_id == caller.key_id))


def list_open(
    session: Session, caller: Caller, case_ids: Collection[UUID], now: datetime
) -> Mapping[UUID, Sequence[str]]:
    """Return, for each of these cases, the key prefixes of others who have it open."""
    rows = session.execute(
        select(OpeningRow.case_id, ApiKeyRow.prefix)
        .join(ApiKeyRow, ApiKeyRow.id == OpeningRow.key_id)
        .where(OpeningRow.case_id.in_(case_ids), OpeningRow.key_id != caller.key_id)
        .where(OpeningRow.seen_at > now - OPEN_FOR)
        .order_by(OpeningRow.seen_at)
    )
    opened = defaultdict(list)
    for case_id, prefix in rows:
        opened[case_id].append(prefix)
    return opened


def _read_reviews(session: Session, case_id: UUID) -> Reviews:
    case = session.execute(select(CaseRow.review_base, CaseRow.state).where(CaseRow.id == case_id)).one()
    base, has_failed = case.review_base, case.state == State.FAILED
    rows = session.execute(
        select(ReviewRow, ApiKeyRow.prefix)
        .join(ApiKeyRow, ApiKeyRow.id == ReviewRow.key_id)
        .where(ReviewRow.case_id == case_id)
        .order_by(ReviewRow.version.desc())
    )
    newest_first = [
        Review(
            case_id,
            row.version,
            Verdict(row.verdict),
            row.label,
            row.note,
            prefix,
            row.reviewed_at,
            had_result=row.version >= base and not has_failed,  # only a failed case is analysed again
        )
        for row, prefix in rows
    ]
    if newest_first and newest_first[0].version >= base:
        newest, *earlier = newest_first
        return Reviews(newest.version, newest, earlier)
    return Reviews(base, None, newest_first)
