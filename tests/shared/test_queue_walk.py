"""Random walks through the life of cases: whatever the order of events, the invariants hold."""

import random
from collections.abc import Sequence
from contextlib import nullcontext
from uuid import UUID

import pytest
from sqlalchemy import RowMapping, select

from shared.database import Database
from shared.domain import (
    MAX_ATTEMPTS,
    Priority,
    State,
)
from shared.errors import Conflict
from shared.storage import overlay_key
from shared.store import cases
from shared.tables import CaseRow
from tests.factories import add_clinic, clinic_caller
from tests.shared.steps import (
    at,
    claim,
    give_back,
    load_model,
    overlays,
    record,
    reject,
    stored,
    submit,
    sweep,
)


@pytest.fixture
def clinic_id(database) -> UUID:
    load_model(database)
    return add_clinic(database)


class Walk:
    """Does at random what clinics, workers and the sweeper do, and keeps every lease that was ever given."""

    def __init__(self, database: Database, clinics: Sequence[UUID], seed: int):
        self.database, self.clinics, self.random = database, clinics, random.Random(seed)
        self.seconds, self.submitted, self.leases, self.late = 0, [], [], 0

    def step(self) -> None:
        self.seconds += self.random.randint(0, 20)
        actions = [self.submit, self.claim, self.claim, self.finish, self.finish, self.finish, self.sweep, self.cancel]
        self.random.choice(actions)()

    def submit(self) -> None:
        priority = self.random.choice(list(Priority))
        self.submitted.append(submit(self.database, self.random.choice(self.clinics), self.seconds, priority=priority))

    def claim(self) -> None:
        self.leases += claim(self.database, self.random.randint(1, 4), self.seconds, lease_s=60)

    def finish(self) -> None:
        """End a lease, an old one as likely as a new one; exactly the current holder succeeds."""
        if not self.leases:
            return
        lease = self.random.choice(self.leases[-20:])
        holds = stored(self.database, lease.case_id)["lease_token"] == lease.token
        own_overlay = overlay_key(lease.clinic_id, lease.case_id, lease.token)
        repeated = overlays(self.database).get(lease.case_id) == own_overlay
        action = self.random.choice([record, record, reject, give_back])
        assert action(self.database, lease, self.seconds) is (holds or (repeated and action is record))
        self.late += not holds

    def sweep(self) -> None:
        sweep(self.database, self.seconds)

    def cancel(self) -> None:
        if not self.submitted or self.random.random() < 0.5:
            return
        case = self.random.choice(self.submitted)
        final = State(stored(self.database, case.id)["state"]).is_final
        refused = pytest.raises(Conflict, match="case_is_final") if final else nullcontext()
        with self.database.writing() as session, refused:
            cases.cancel_case(session, clinic_caller(case.clinic_id), case.id, at(self.seconds))


def check_what_always_holds(before: dict[UUID, RowMapping], after: dict[UUID, RowMapping], results: set[UUID]) -> None:
    for case_id, row in after.items():
        state, was = State(row["state"]), before.get(case_id, row)
        assert (state is State.RUNNING) == (row["lease_token"] is not None) == (row["lease_expires_at"] is not None)
        assert state.is_final == (row["finished_at"] is not None)
        assert (state is State.SUCCEEDED) == (case_id in results)
        assert (state in (State.REJECTED, State.FAILED)) == (row["error_code"] is not None)
        assert 0 <= row["attempts"] <= MAX_ATTEMPTS
        # A client that compares versions misses no change, and a final case never changes again.
        assert row == was or (row["version"] > was["version"] and not State(was["state"]).is_final)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_the_order_every_case_is_in_one_state_and_ends_once(database, clinic_id, seed):
    walk = Walk(database, [clinic_id, add_clinic(database), add_clinic(database)], seed)
    before: dict[UUID, RowMapping] = {}
    for _ in range(300):
        walk.step()
        with database.reading() as session:
            after = {row["id"]: row for row in session.execute(select(CaseRow.__table__)).mappings()}
        check_what_always_holds(before, after, set(overlays(database)))
        assert after.keys() == {case.id for case in walk.submitted}
        before = after
    # The walk has been everywhere, late results included.
    assert {row["state"] for row in before.values()} >= {"succeeded", "rejected", "failed", "cancelled"}
    assert walk.late > 10
