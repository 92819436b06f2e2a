"""The frequent queries of workers, clinics and reviewers use an index, however many cases there are."""

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

from sqlalchemy import event, select
from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.domain import Caller, Role, State
from shared.store import cases, objects, overview, queue, worklist
from shared.store.cases import CaseFilter
from shared.tables import ClinicRow
from tests.benchmarks.many_cases import MIXED, fill
from tests.factories import new_case

ROWS, CLINICS = 20_000, 10
EXPLAIN = {"postgresql": "EXPLAIN", "sqlite": "EXPLAIN QUERY PLAN"}
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
READER = Caller(uuid4(), Role.REVIEWER, None)

FEW = ("ix_cases_reference", "ix_cases_unranked", "ix_cases_waiting_clinic")
"""These find few rows (of a clinic's waiting cases, because of its limit), so that sorting them is fine."""


def another(session: Session, caller: Caller) -> UUID:
    """Return a clinic with few cases: for one with most of them, another index does as well."""
    return session.scalar(select(ClinicRow.id).where(ClinicRow.id != caller.clinic_id).limit(1))


Ask = Callable[[Session, Caller], object]

ASKED: dict[Ask, str] = {
    lambda session, _: queue.claim_cases(session, 16, 60, read_clock(session)): "ix_cases_waiting",
    lambda session, caller: cases.add_case(
        session, new_case(caller.clinic_id), read_clock(session)
    ): "ix_cases_waiting",
    lambda session, _: queue.count_waiting(session, read_clock(session), 32): "ix_cases_waiting",
    lambda session, _: queue.count_queued(session, 100_000): "ix_cases_waiting",
    lambda session, caller: cases.count_waiting_of(session, caller.clinic_id, 2000): "ix_cases_waiting_clinic",
    lambda session, _: queue.bring_forward(session, read_clock(session), 300): "ix_cases_waiting",
    lambda session, _: queue.sweep_leases(session, read_clock(session)): "ix_cases_leases",
    lambda session, _: worklist.rank_unranked(session, 1000): "ix_cases_unranked",
    lambda session, caller: cases.list_finished_before(
        session, another(session, caller), LONG_AGO, 20
    ): "ix_cases_kept",
    lambda session, _: objects.is_any_submitted(session, LONG_AGO, read_clock(session)): "ix_cases_newest",
    lambda session, _: worklist.count_worklist(session, worklist.WorklistFilter()): "ix_cases_worklist",
    lambda session, _: worklist.list_worklist(
        session, worklist.WorklistFilter(reviewed=True, state=State.FAILED), 5
    ): "ix_cases_worklist_decision",
    lambda session, _: overview.count_failed(session): "ix_cases_state",
    lambda session, caller: cases.list_cases(session, caller, CaseFilter(), 51): "ix_cases_clinic_newest",
    lambda session, caller: cases.list_cases(session, caller, CaseFilter(State.FAILED), 51): "ix_cases_clinic_state",
    lambda session, caller: cases.list_cases(session, caller, CaseFilter(None, "patient-7"), 51): "ix_cases_reference",
    lambda session, _: cases.list_cases(session, READER, CaseFilter(), 51): "ix_cases_newest",
    lambda session, _: cases.list_cases(session, READER, CaseFilter(State.FAILED), 51): "ix_cases_state",
    lambda session, _: cases.list_cases(session, READER, CaseFilter(None, "patient-7"), 51): "ix_cases_reference",
}


def plan_of(database: Database, ask: Ask, caller: Caller) -> str:
    """Return the database's plan for the first query of cases, on one line."""
    plans = []

    def explain(connection, _cursor, statement, parameters, *_) -> None:
        if statement.startswith("UPDATE cases") or (statement.startswith("SELECT") and "FROM cases" in statement):
            cursor = connection.connection.cursor()
            cursor.execute(f"{EXPLAIN[connection.dialect.name]} {statement}", parameters)
            plans.append(str(cursor.fetchall()))

    event.listen(database.engine, "before_cursor_execute", explain)
    with database.writing() as session:
        ask(session, caller)
    event.remove(database.engine, "before_cursor_execute", explain)
    return plans[0]


def test_every_frequent_query_is_a_walk_along_its_index(database):
    caller = fill(database, CLINICS, MIXED, ROWS)
    for ask, index in ASKED.items():
        plan = plan_of(database, ask, caller)
        assert f"{index} " in plan or f"{index}'" in plan, (index, plan)
        assert "Seq Scan on cases" not in plan, plan
        if index not in FEW:
            assert "Sort" not in plan, plan
            assert "TEMP B-TREE" not in plan, plan
