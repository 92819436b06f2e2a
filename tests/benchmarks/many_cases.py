"""A database that holds as many cases as one likes: one of each kind by the store itself, multiplied within SQL."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, Double, String, Uuid, case, cast, func, insert, literal, select, text
from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.domain import Caller, Priority, Problem, State
from shared.migrations import upgrade
from shared.store import access, cases, queue, trail
from shared.tables import AnalysisRow, AuditRow, CaseRow, ClinicRow
from tests.factories import clinic_caller, new_case
from tests.shared.steps import MAPS, analysis_of, load_model

Kind = tuple[State, Priority]

MIXED: Mapping[Kind, float] = {
    (State.SUCCEEDED, Priority.ROUTINE): 0.77,
    (State.SUCCEEDED, Priority.URGENT): 0.05,
    (State.REJECTED, Priority.ROUTINE): 0.04,
    (State.FAILED, Priority.ROUTINE): 0.02,
    (State.CANCELLED, Priority.ROUTINE): 0.02,
    (State.QUEUED, Priority.ROUTINE): 0.08,
    (State.QUEUED, Priority.URGENT): 0.02,
}
"""Shares of a service in use: most cases have ended. Those that wait come last, so that a claim meets no others."""
BACKLOG: Mapping[Kind, float] = {(State.QUEUED, Priority.ROUTINE): 0.95, (State.QUEUED, Priority.URGENT): 0.05}
"""Everything waits."""

IN_HAND = 32
"""Cases of the backlog that two workers hold."""
LEASE_S = 86_400.0
"""No lease runs out while it is measured."""

_SPAN_S = 365 * 86_400
"""The cases of each kind were sent within a year, at equal distances."""
_PRIME, _BUCKETS = 7919, 10_007
"""Multiples of one prime modulo another: numbers in no order."""
_TABLES = (CaseRow, AnalysisRow, AuditRow)


def fill(database: Database, clinics: int, mix: Mapping[Kind, float], rows: int) -> Caller:
    """Make the tables and put `rows` cases into them; return who may see those of the clinic that sent every second.

    The other clinics share the rest evenly. As autovacuum would, PostgreSQL then looks at what it holds; SQLite never
    does. The audit trail has its entries but is no chain.
    """
    upgrade(database)
    load_model(database)
    with database.writing() as session:
        now = read_clock(session)
        caller = clinic_caller(access.add_clinic(session, "Clinic 000", now))
        session.add_all(ClinicRow(id=uuid4(), name=f"Clinic {n:03}", created_at=now) for n in range(1, clinics))
        models = {_make_case(session, caller.clinic_id, kind, now): share for kind, share in mix.items()}
        with _indexes_made_at_the_end(session):
            for case_id, share in models.items():
                _multiply_case(session, case_id, round(rows * share), clinics, now)
            _multiply_results(session)
            _add_trail(session, caller)
        queue.claim_cases(session, IN_HAND, LEASE_S, now)
    if database.engine.dialect.name == "postgresql":
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))
    return caller


def _make_case(session: Session, clinic_id: UUID, kind: Kind, now: datetime) -> UUID:
    """Take one case where it is to be, as API and worker would."""
    state, priority = kind
    case_id = cases.add_case(session, new_case(clinic_id, priority=priority), now).id
    if state is State.CANCELLED:
        cases.cancel_case(session, clinic_caller(clinic_id), case_id, now)
    elif state is not State.QUEUED:
        (lease,) = queue.claim_cases(session, 1, LEASE_S, now)
        if state is State.SUCCEEDED:
            queue.record_analyses(session, [(lease, analysis_of(lease), MAPS)], now)
        else:
            queue.record_problem(session, lease, Problem(state, "code", "Because."), now)
    return case_id


@contextmanager
def _indexes_made_at_the_end(session: Session) -> Iterator[None]:
    """Loading and then sorting is much quicker than keeping every index in order meanwhile."""
    is_postgresql = session.get_bind().dialect.name == "postgresql"
    session.execute(
        text("SET LOCAL maintenance_work_mem = '256MB'" if is_postgresql else "PRAGMA cache_size = -262144")
    )
    indexes = [index for table in _TABLES for index in table.__table__.indexes]
    for index in indexes:
        index.drop(session.connection())
    yield
    for index in indexes:
        index.create(session.connection())


def _multiply_case(session: Session, case_id: UUID, number: int, clinics: int, now: datetime) -> None:
    """Add copies of a case until there are `number`, each with a clinic, a time, a turn and a rank of its own."""
    counted = select(literal(1).label("number")).cte("counted", recursive=True)
    counted = counted.union_all(select(counted.c.number + 1).where(counted.c.number < number - 1))
    clinic = select(ClinicRow.id, (func.row_number().over(order_by=ClinicRow.name) - 1).label("place")).subquery()
    of_large, nth = counted.c.number % 2 == 0, counted.c.number // 2
    place = 0 if clinics == 1 else case((of_large, 0), else_=1 + nth % (clinics - 1))
    turn = counted.c.number if clinics == 1 else case((of_large, nth), else_=nth // (clinics - 1))
    sent_at = _moment(session, now.timestamp() - _SPAN_S * (1 - cast(counted.c.number, Double) / number))
    melanoma = cast(counted.c.number % _BUCKETS * _PRIME % _BUCKETS, Double) / _BUCKETS
    reviewable = CaseRow.review_rank.is_not(None)
    own = {
        "id": _random_id(session),
        "clinic_id": clinic.c.id,
        "turn": turn,
        "reference": literal("patient-") + cast(counted.c.number, String),
        "idempotency_key": literal(f"{case_id}-") + cast(counted.c.number, String),
        "submitted_at": sent_at,
        "available_at": sent_at,
        "finished_at": case((CaseRow.finished_at.is_not(None), sent_at)),
        "review_rank": case((reviewable, 2.0 * CaseRow.urgency - melanoma)),
        "reviewed": reviewable & (counted.c.number < 0.8 * number),
    }
    columns = {column.name: own.get(column.name, column) for column in CaseRow.__table__.columns}
    copies = (
        select(*columns.values())
        .select_from(CaseRow)
        .join(counted, literal(True))
        .join(clinic, clinic.c.place == place)
    )
    session.execute(insert(CaseRow).from_select(list(columns), copies.where(CaseRow.id == case_id)))


def _multiply_results(session: Session) -> None:
    """Give every succeeded case that has no result a copy of one, with the probability that the case is ranked by."""
    model, own = (
        select(AnalysisRow.__table__).limit(1).subquery(),
        {
            "case_id": CaseRow.id,
            "melanoma": 2.0 * CaseRow.urgency - CaseRow.review_rank,
            "decision": CaseRow.decision,
        },
    )
    columns = {name: own.get(name, column) for name, column in model.c.items()}
    lacking = CaseRow.id.not_in(select(AnalysisRow.case_id)), CaseRow.state == State.SUCCEEDED
    copies = select(*columns.values()).join(model, literal(True)).where(*lacking)
    session.execute(insert(AnalysisRow).from_select(list(columns), copies))


def _add_trail(session: Session, caller: Caller) -> None:
    """Note of every case that it was sent, and of every result that it was read."""
    submitted = select(literal("case.submitted").label("action"), CaseRow.id, CaseRow.clinic_id)
    read = select(literal(trail.CASE_READ).label("action"), CaseRow.id, CaseRow.clinic_id)
    events = submitted.union_all(read.where(CaseRow.state == State.SUCCEEDED)).subquery()
    entry = {
        "at": func.now(),
        "action": events.c.action,
        "key_id": literal(caller.key_id, Uuid()),
        "role": literal(caller.role),
        "clinic_id": events.c.clinic_id,
        "case_id": events.c.id,
        "position": func.row_number().over(),
        "hash": literal("0" * 64),
    }
    session.execute(insert(AuditRow).from_select(list(entry), select(*entry.values())))


def _random_id(session: Session) -> ColumnElement:
    if session.get_bind().dialect.name == "postgresql":
        return func.gen_random_uuid()
    return func.lower(func.hex(func.randomblob(16)))


def _moment(session: Session, epoch_s: ColumnElement) -> ColumnElement:
    """Return SQL for a moment, given in seconds since 1970, as SQLAlchemy stores it."""
    if session.get_bind().dialect.name == "postgresql":
        return func.to_timestamp(epoch_s)
    return func.strftime("%Y-%m-%d %H:%M:%f000", epoch_s, "unixepoch")
