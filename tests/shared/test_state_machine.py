"""The life of cases as a state machine: its rules hold whatever clinics, workers and sweeps do, in whatever order.

With `--full` it searches for longer, with other examples every time.
"""

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import RowMapping, delete, select
from sqlalchemy.orm import Session

from shared.database import Database, open_database
from shared.domain import MAX_ATTEMPTS, Lease, Photograph, Priority, Problem, State
from shared.errors import Conflict, NotFound
from shared.migrations import upgrade
from shared.store import cases, objects, queue, trail
from shared.tables import AnalysisRow, AuditRow, CaseRow, Table
from tests.factories import add_clinic, clinic_caller, new_case
from tests.shared.steps import MAPS, analysis_of, at, load_model

LEASE_S, KEPT_S = 60, 600
CLINIC, KEY = st.integers(0, 1), st.sampled_from([None, "key-1", "key-2"])
ERASED = {
    *("reference", "age", "sex", "site", "idempotency_key", "photograph_key", "sha256", "request_sha256"),
    *("decision", "review_rank", "traceparent", "width", "height", "size_bytes"),
}
VISIBLE = {"state", "finished_at", "error_code", "error_detail"}


class LifeOfCases(RuleBasedStateMachine):
    """Performs every step in SQL and on a few dictionaries, and compares the two."""

    sent, leases, failed = Bundle("sent"), Bundle("leases"), Bundle("failed")

    def __init__(self, database: Database, seen: Counter):
        super().__init__()
        self.database, self.seen, self.now = database, seen, at(0)
        with database.writing() as session:
            for table in reversed(Table.metadata.sorted_tables):
                session.execute(delete(table))
        load_model(database)
        self.clinics = [add_clinic(database), add_clinic(database)]
        self.state: dict[UUID, State] = {}
        self.holder: dict[UUID, Lease] = {}
        self.made_by: dict[tuple[UUID, str], UUID] = {}
        self.result: dict[UUID, str] = {}
        self.alone: set[UUID] = set()
        self.deleted: set[UUID] = set()
        self.trail: list[tuple[str, UUID]] = []
        self.rows: dict[UUID, RowMapping] = {}
        self.noted_head: str | None = None

    @precondition(lambda self: list(self.state.values()).count(State.QUEUED) < 4)
    @rule(target=sent, clinic=CLINIC, priority=st.sampled_from(Priority), key=KEY)
    def submit(self, clinic: int, priority: Priority, key: str | None):
        """With a key that already made a case, the answer is that case; if both came at once, SQL refuses one."""
        clinic_id, case_id = self.clinics[clinic], UUID(int=len(self.state))
        with self.database.reading() as session:
            found = cases.find_by_idempotency_key(session, clinic_id, key) if key else None
        assert (found and found[0].id) == self.made_by.get((clinic_id, key))
        personal = {"reference": "Jane", "age": 61, "sex": "female", "site": "back", "idempotency_key": key}
        personal["traceparent"] = "00-…"
        photograph = Photograph(f"{clinic_id}/{case_id}/x.jpg", "image/jpeg", 640, 480, 1000, case_id.hex * 2)
        case = new_case(clinic_id, id=case_id, photograph=photograph, priority=priority, **personal)
        add, conflict = partial(cases.add_case, case=case, now=self.now), "idempotency_key_taken" if found else None
        if not self._is_done("case.submitted", case_id, conflict, add):
            return multiple()
        self.state[case_id] = State.QUEUED
        self.made_by |= {(clinic_id, key): case_id} if key else {}
        return case_id

    @precondition(lambda self: State.QUEUED in self.state.values())
    @rule(target=leases, limit=st.integers(1, 4))
    def claim(self, limit: int):
        with self.database.writing() as session:
            claimed = queue.claim_cases(session, limit, LEASE_S, self.now)
        assert len(claimed) <= (1 if self.alone & {lease.case_id for lease in claimed} else limit)
        for lease in claimed:
            assert self.state[lease.case_id] is State.QUEUED
            assert lease.alone == (lease.case_id in self.alone)
            self.state[lease.case_id], self.holder[lease.case_id] = State.RUNNING, lease
        return multiple(*sorted(claimed, key=lambda lease: lease.case_id))

    @precondition(lambda self: self.holder)
    @rule(target=failed, later_s=st.sampled_from([1, LEASE_S, LEASE_S + 1]))
    def sweep(self, later_s: int):
        self.now += timedelta(seconds=later_s)
        expired = [lease for lease in self.holder.values() if lease.expires_at < self.now]
        given_up = {lease.case_id for lease in expired if lease.attempt == MAX_ATTEMPTS}
        with self.database.writing() as session:
            found = queue.sweep_leases(session, self.now)
            trail.audit(session, trail.WORKER, "case.failed", found.failed, self.now)
        assert (found.returned, set(found.failed)) == (len(expired) - len(given_up), given_up)
        self._note("case.failed", *found.failed)
        self.seen["returned"] += found.returned
        for lease in expired:
            self._end(lease.case_id, State.FAILED if lease.case_id in given_up else State.QUEUED)
            self.alone.add(lease.case_id)
        return multiple(*sorted(given_up))

    @rule(lease=consumes(leases), is_to_blame=st.booleans())
    def postpone(self, lease: Lease, is_to_blame: bool) -> None:
        counted = is_to_blame and lease.attempt < MAX_ATTEMPTS
        with self.database.writing() as session:
            done = queue.return_case(session, lease, self.now, alone=lease.alone or counted, counted=counted)
        assert done == self._holds(lease)
        if done:
            self._end(lease.case_id, State.QUEUED)
            self.alone |= {lease.case_id} if counted else set()

    @rule(lease=leases, others=st.lists(leases, max_size=3))
    def record_results(self, lease: Lease, others: list[Lease]) -> None:
        batch = list({each.case_id: each for each in [lease, *others]}.values())
        held = [each.case_id for each in batch if self._holds(each)]
        keys = {each.case_id: analysis_of(each).overlay_key for each in batch}
        standing = [case_id for case_id in keys.keys() - self.deleted if self.result.get(case_id) == keys[case_id]]
        with self.database.writing() as session:
            found = [(each, analysis_of(each), MAPS) for each in batch]
            done = queue.record_analyses(session, found, self.now)
            trail.audit(session, trail.WORKER, "case.succeeded", held, self.now)
        assert done == queue.Recorded({*held}, {*standing})
        self.seen["late"] += len(batch) - len(held)
        self.seen["some_late"] += 0 < len(held) < len(batch)
        for case_id in held:
            assert case_id not in self.result
            self.result[case_id] = keys[case_id]
            self._end(case_id, State.SUCCEEDED)
        self._note("case.succeeded", *held)

    @rule(target=failed, lease=consumes(leases), state=st.sampled_from([State.REJECTED, State.FAILED]))
    def record_problem(self, lease: Lease, state: State):
        with self.database.writing() as session:
            done = queue.record_problem(session, lease, Problem(state, "code", "Because."), self.now)
            trail.audit(session, trail.WORKER, f"case.{state}", [lease.case_id] if done else [], self.now)
        assert done == self._holds(lease)
        if done:
            self._note(f"case.{state}", lease.case_id)
            self._end(lease.case_id, state)
        return multiple(*[lease.case_id] if done and state is State.FAILED else [])

    @rule(case_id=sent, action=st.sampled_from(["case.cancelled", "case.cancelled", "case.deleted"]))
    def withdraw(self, case_id: UUID, action: str) -> None:
        is_deletion, clinic = action == "case.deleted", clinic_caller(self.rows[case_id]["clinic_id"])
        conflict = "case_is_final" if self.state[case_id].is_final and not is_deletion else None
        call = partial(cases.delete_case if is_deletion else cases.cancel_case, caller=clinic)
        if self._is_done(action, case_id, conflict, partial(call, case_id=case_id, now=self.now)):
            self._forget(case_id) if is_deletion else self._end(case_id, State.CANCELLED)

    @rule(case_id=failed)
    def requeue(self, case_id: UUID) -> None:
        conflict = None if self.state[case_id] is State.FAILED else "case_not_failed"
        requeue = partial(cases.requeue_case, case_id=case_id, now=self.now)
        if self._is_done("case.requeued", case_id, conflict, requeue):
            self.state[case_id] = State.QUEUED
            self.alone.add(case_id)

    @precondition(lambda self: any(row["finished_at"] and not row["deleted_at"] for row in self.rows.values()))
    @rule(clinic=CLINIC, later_s=st.sampled_from([1, KEPT_S, KEPT_S + 1]))
    def purge(self, clinic: int, later_s: int) -> None:
        self.now += timedelta(seconds=later_s)
        clinic_id, kept_since = self.clinics[clinic], self.now - timedelta(seconds=KEPT_S)
        with self.database.writing() as session:
            found = cases.list_finished_before(session, clinic_id, kept_since, 100)
            for case_id in found:
                cases.delete_case(session, None, case_id, self.now)
            trail.audit(session, trail.HOUSEKEEPING, "case.purged", found, self.now)
            _, self.noted_head = trail.read_head(session)
        kept = [row for row in self.rows.values() if row["clinic_id"] == clinic_id and not row["deleted_at"]]
        assert set(found) == {row["id"] for row in kept if row["finished_at"] and row["finished_at"] < kept_since}
        self._note("case.purged", *found)
        for case_id in found:
            self._forget(case_id)

    @precondition(lambda self: any(row["deleted_at"] and not row["erased_at"] for row in self.rows.values()))
    @rule(later_s=st.sampled_from([1, LEASE_S + 1]))
    def erase(self, later_s: int) -> None:
        self.now += timedelta(seconds=later_s)
        one_lease_ago = self.now - timedelta(seconds=LEASE_S)
        with self.database.writing() as session:
            to_erase = {deleted.case_id for deleted in objects.list_to_erase(session, one_lease_ago, 100)}
            for case_id in to_erase:
                objects.mark_erased(session, case_id, self.now)
        deleted = [self.rows[case_id] for case_id in self.deleted if not self.rows[case_id]["erased_at"]]
        assert to_erase == {row["id"] for row in deleted if row["deleted_at"] < one_lease_ago}
        self.seen["erased"] += len(to_erase)

    @invariant()
    def every_case_is_where_it_should_be_and_every_change_on_record(self) -> None:
        with self.database.reading() as session:
            rows = {row["id"]: row for row in session.execute(select(CaseRow.__table__)).mappings()}
            results = dict(session.execute(select(AnalysisRow.case_id, AnalysisRow.overlay_key)).all())
            audited = session.execute(select(AuditRow.action, AuditRow.case_id).order_by(AuditRow.position)).all()
        assert audited == self.trail
        assert {case_id: row["state"] for case_id, row in rows.items()} == self.state
        assert results == {case_id: key for case_id, key in self.result.items() if case_id not in self.deleted}
        for case_id, row in rows.items():
            check_row(row, self.holder.get(case_id), case_id in self.deleted)
            check_change(self.rows.get(case_id, row), row)
        self.rows = rows

    def teardown(self) -> None:
        with self.database.reading() as session:
            assert trail.verify_trail(session, self.noted_head).faults == []

    def _is_done(self, action: str, case_id: UUID, conflict: str | None, call: Callable[[Session], object]) -> bool:
        """Perform and audit a change; check that it is refused exactly if the case is gone or there is a conflict."""
        expected = "case_not_found" if case_id in self.deleted else conflict
        refused = nullcontext() if expected is None else pytest.raises((Conflict, NotFound), match=expected)
        with refused, self.database.writing() as session:
            trail.audit(session, trail.OPERATOR, action, [case_id], self.now)  # a refusal rolls it back
            call(session)
        self.trail += [(action, case_id)] if expected is None else []
        self.seen[expected or action] += 1
        return expected is None

    def _note(self, action: str, *case_ids: UUID) -> None:
        self.trail += [(action, case_id) for case_id in case_ids]
        self.seen[action] += len(case_ids)

    def _holds(self, lease: Lease) -> bool:
        return self.holder.get(lease.case_id) == lease

    def _end(self, case_id: UUID, state: State) -> None:
        self.holder.pop(case_id, None)
        self.state[case_id] = state

    def _forget(self, case_id: UUID) -> None:
        if not self.state[case_id].is_final:
            self._end(case_id, State.CANCELLED)
        self.deleted.add(case_id)
        self.made_by = {key: made for key, made in self.made_by.items() if made != case_id}


def check_row(row: RowMapping, lease: Lease | None, is_deleted: bool) -> None:
    state = State(row["state"])
    assert (state is State.RUNNING) == (lease is not None)
    assert row["lease_token"] == (lease.token if lease else None)
    assert row["lease_expires_at"] == (lease.expires_at if lease else None)
    assert state.is_final == (row["finished_at"] is not None)
    assert (state in (State.REJECTED, State.FAILED)) == (row["error_code"] is not None)
    assert 0 <= row["attempts"] <= MAX_ATTEMPTS
    assert is_deleted == (row["deleted_at"] is not None)
    assert is_deleted or row["erased_at"] is None
    if is_deleted:
        assert {name: row[name] for name in ERASED if row[name]} == {}


def check_change(was: RowMapping, row: RowMapping) -> None:
    changed = {name for name in row if row[name] != was[name]}
    # A client that compares versions misses no change, and is sent nothing twice.
    assert row["version"] > was["version"] if changed & VISIBLE else row["version"] == was["version"]
    if (was["state"], row["state"]) == (State.FAILED, State.QUEUED):
        assert (row["attempts"], row["alone"]) == (0, True)
    elif State(was["state"]).is_final:
        assert changed <= ERASED | {"deleted_at", "erased_at"}


LIVES = settings(stateful_step_count=50, database=None, deadline=None, suppress_health_check=list(HealthCheck))
EVERYTHING = (
    "case.submitted case.succeeded case.rejected case.failed case.cancelled case.requeued case.deleted case.purged"
    " returned erased late some_late idempotency_key_taken case_is_final case_not_failed case_not_found"
)


def live(database: Database, examples: int, request) -> Counter:
    """Try `examples` lives of 50 steps, the same ones every time; with `--full`, others, a hundred times as many."""
    is_full, seen = request.config.getoption("--full"), Counter()
    chosen = settings(LIVES, max_examples=examples * (100 if is_full else 1), derandomize=not is_full)
    run_state_machine_as_test(lambda: LifeOfCases(database, seen), settings=chosen)
    return seen


def test_every_case_ends_once_whatever_happens_in_whatever_order(request):
    database = open_database("sqlite://")
    upgrade(database)
    seen = live(database, 40, request)
    database.engine.dispose()
    assert all(seen[name] for name in EVERYTHING.split()), seen


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_it_holds_on_postgresql_too(database, request):
    live(database, 7, request)
