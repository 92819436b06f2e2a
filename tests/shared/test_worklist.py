"""The reviewers' worklist: what is on it, in which order, and that a million rows would not slow it down."""

import json
from uuid import UUID

import pytest
from sqlalchemy import text

from shared.domain import Decision, Lease, Priority, Problem, State
from shared.store import cases, queue, worklist
from shared.store.worklist import WorklistFilter
from tests.factories import add_clinic
from tests.shared.steps import MAPS, analysis_of, at, claim, load_model, reject, stored, submit

FAILURE = Problem(State.FAILED, "analysis_failed", "A person must look at this case.")
MANY = 100_000
COPIES = """
    INSERT INTO cases
    SELECT copy.* FROM cases AS template, generate_series(0, :many - 1) AS number, jsonb_populate_record(
        template,
        jsonb_build_object(
            'id', lpad(to_hex(number), 32, '0'),
            'clinic_id', (CAST(:clinics AS uuid[]))[number % 10 + 1],
            'review_rank', 2 * CAST(number % 20 > 0 AS int) - number * 7919 % :many / CAST(:many AS float),
            'reviewed', number % 5 > 0,
            'submitted_at', template.submitted_at + number * interval '1 second'
        )
    ) AS copy
"""


@pytest.fixture
def clinic_id(database) -> UUID:
    load_model(database)
    return add_clinic(database)


def lease_of(database, clinic_id: UUID, seconds: float = 0, **changes) -> Lease:
    submit(database, clinic_id, seconds, **changes)
    (lease,) = claim(database, seconds=seconds)
    return lease


def succeed(database, clinic_id: UUID, melanoma: float, seconds: float = 0, **changes) -> UUID:
    lease = lease_of(database, clinic_id, seconds, **changes)
    decision = Decision.REFER if melanoma >= 0.5 else Decision.ROUTINE
    probabilities = (melanoma, (1 - melanoma) / 2, (1 - melanoma) / 2)
    analysis = analysis_of(lease).__class__(
        **vars(analysis_of(lease)) | {"probabilities": probabilities, "decision": decision}
    )
    with database.writing() as session:
        assert queue.record_analyses(session, [(lease, analysis, MAPS)], at(seconds + 1)).written == {lease.case_id}
    return lease.case_id


def fail(database, clinic_id: UUID, seconds: float = 0, **changes) -> UUID:
    lease = lease_of(database, clinic_id, seconds, **changes)
    with database.writing() as session:
        assert queue.record_problem(session, lease, FAILURE, at(seconds + 1))
    return lease.case_id


def listed(database, limit: int = 100, **wanted) -> list[UUID]:
    """Follow the cursor from page to page until one comes back empty."""
    found = []
    while True:
        with database.reading() as session:
            page = worklist.list_worklist(session, WorklistFilter(**wanted), limit)
        if not page:
            return found
        found += [entry.case.id for entry in page]
        wanted["after"] = page[-1].place


def mark_reviewed(database, case_id: UUID) -> None:
    with database.writing() as session:
        session.execute(
            text("UPDATE cases SET reviewed = true WHERE id = :id").bindparams(id=_as_stored(database, case_id))
        )


def _as_stored(database, case_id: UUID) -> UUID | str:
    return case_id if database.engine.dialect.name == "postgresql" else case_id.hex


def test_urgent_cases_come_first_then_the_most_suspicious_then_the_longest_waiting(database, clinic_id):
    harmless = succeed(database, clinic_id, 0.1, 0)
    late = succeed(database, clinic_id, 0.9, 30)
    early = succeed(database, clinic_id, 0.9, 20)
    urgent = succeed(database, clinic_id, 0.2, 40, priority=Priority.URGENT)
    assert listed(database) == listed(database, limit=1) == [urgent, early, late, harmless]


def test_a_failed_case_ranks_as_a_certain_melanoma(database, clinic_id):
    suspicious, failed = succeed(database, clinic_id, 0.99), fail(database, clinic_id, 10)
    urgent = succeed(database, clinic_id, 0.01, 20, priority=Priority.URGENT)
    assert listed(database) == [urgent, failed, suspicious]


def test_a_case_whose_worker_never_came_back_is_on_the_list_once_it_has_failed(database, clinic_id):
    case = submit(database, clinic_id)
    for attempt in range(3):
        assert listed(database) == []
        claim(database, seconds=100 * attempt)
        with database.writing() as session:
            queue.sweep_leases(session, at(100 * attempt + 90))
    assert listed(database) == [case.id]


def test_a_waiting_running_rejected_deleted_or_requeued_case_is_not_on_the_list(database, clinic_id):
    deleted, requeued = succeed(database, clinic_id, 0.5), fail(database, clinic_id)
    reject(database, lease_of(database, clinic_id))
    lease_of(database, clinic_id)
    submit(database, clinic_id)
    with database.writing() as session:
        cases.delete_case(session, None, deleted, at(5))
        cases.requeue_case(session, requeued, at(5))
    assert listed(database) == []


def test_each_filter_leaves_out_the_others(database, clinic_id):
    other_clinic = add_clinic(database)
    first = succeed(database, clinic_id, 0.9, 0)
    second = succeed(database, other_clinic, 0.4, 10)
    failed = fail(database, clinic_id, 20)
    mark_reviewed(database, done := succeed(database, clinic_id, 0.8, 30))
    assert listed(database, state=State.SUCCEEDED) == [first, second]
    assert listed(database, state=State.FAILED) == [failed]
    assert listed(database, clinic_id=other_clinic) == [second]
    assert listed(database, decision=Decision.REFER) == [first]
    assert listed(database, decision=Decision.ROUTINE) == [second]
    assert listed(database, submitted_from=at(10)) == [failed, second]
    assert listed(database, submitted_before=at(10)) == [first]
    assert listed(database, reviewed=True) == [done]


def test_a_case_that_is_reviewed_during_paging_shifts_nothing(database, clinic_id):
    order = [succeed(database, clinic_id, 0.9 - number / 10) for number in range(4)]
    with database.reading() as session:
        page = worklist.list_worklist(session, WorklistFilter(), 2)
    mark_reviewed(database, order[0])
    assert listed(database, after=page[-1].place) == order[2:]


def test_counting_stops_at_a_thousand(database, clinic_id, monkeypatch):
    monkeypatch.setattr(worklist, "COUNTED_AT_MOST", 2)
    for number in range(3):
        with database.reading() as session:
            assert worklist.count_worklist(session, WorklistFilter()) == min(number, 2)
        succeed(database, clinic_id, 0.5)


def test_a_sweep_ranks_what_a_version_without_reviews_has_ended(database, clinic_id):
    order = [fail(database, clinic_id), succeed(database, clinic_id, 0.75), succeed(database, clinic_id, 0.25)]
    with database.writing() as session:
        session.execute(text("UPDATE cases SET review_rank = NULL, decision = NULL"))
    reject(database, lease_of(database, clinic_id))
    assert listed(database) == []
    ranked = []
    for _ in range(3):
        with database.writing() as session:
            ranked.append(worklist.rank_unranked(session, 2))
    assert ranked == [2, 1, 0]
    assert listed(database) == order
    assert [stored(database, case_id)["review_rank"] for case_id in order] == [1, 1.25, 1.75]
    assert [stored(database, case_id)["decision"] for case_id in order] == [None, Decision.REFER, Decision.ROUTINE]


def plan_of(session, wanted: WorklistFilter) -> str:
    """Return PostgreSQL's plan for a page's query, on one line."""
    query = worklist.worklist_query(wanted, 51)
    compiled = query.compile(session.get_bind())
    found = session.connection().exec_driver_sql(f"EXPLAIN (FORMAT JSON) {compiled}", compiled.params)
    return json.dumps(found.scalar())


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_page_is_a_walk_along_an_index_however_many_cases_there_are(database, clinic_id):
    succeed(database, clinic_id, 0.5)
    clinics = [clinic_id, *(add_clinic(database) for _ in range(9))]
    with database.writing() as session:
        session.execute(text(COPIES), {"clinics": clinics, "many": MANY})
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("ANALYZE"))
    after = (1.5, at(5000), UUID(int=5000))
    with database.reading() as session:
        for wanted, index in (
            ({}, "ix_cases_worklist"),
            ({"after": after}, "ix_cases_worklist"),
            ({"reviewed": True}, "ix_cases_worklist"),
            ({"clinic_id": clinics[3]}, "ix_cases_worklist_clinic"),
            ({"clinic_id": clinics[3], "after": after}, "ix_cases_worklist_clinic"),
        ):
            plan = plan_of(session, WorklistFilter(**wanted))
            assert f'"Index Name": "{index}"' in plan, plan
            assert "Seq Scan on cases" not in plan
            assert '"Node Type": "Sort"' not in plan, plan
