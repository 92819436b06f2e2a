"""The queue in SQL: who holds a case, and that it ends once, whoever dies on the way."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import event

from shared.domain import LONGEST_LEASE_S, MAX_ATTEMPTS, Decision, Priority
from shared.errors import Conflict
from shared.object_keys import overlay_key
from shared.store import cases, queue
from tests.factories import add_clinic, clinic_caller, new_case
from tests.shared.steps import (
    MAPS,
    NOT_SKIN,
    analysis_of,
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
from tests.waiting import is_waiting_for_a_lock, wait_until

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@pytest.fixture
def clinic_id(database) -> UUID:
    load_model(database)
    return add_clinic(database)


def test_a_claim_takes_no_more_than_was_asked_for_in_the_order_in_which_they_were_sent(database, clinic_id):
    sent = [submit(database, clinic_id).id for _ in range(7)]
    batches = [{lease.case_id for lease in claim(database, limit)} for limit in (1, 1, 3, 3, 3)]
    assert batches == [{sent[0]}, {sent[1]}, set(sent[2:5]), set(sent[5:]), set()]


def test_a_lease_says_what_the_worker_must_know(database, clinic_id):
    case = submit(database, clinic_id)
    (lease,) = claim(database, seconds=5, lease_s=60)
    assert (lease.case_id, lease.clinic_id, lease.photograph_key) == (case.id, clinic_id, case.photograph.key)
    assert (lease.attempt, lease.alone, lease.expires_at) == (1, False, at(65))
    row = stored(database, case.id)
    assert (row["state"], row["lease_token"], row["lease_expires_at"]) == ("running", lease.token, at(65))


def test_a_postponed_case_is_not_claimed_before_its_time(database, clinic_id):
    submit(database, clinic_id)
    give_back(database, claim(database)[0], 10)
    with database.reading() as session:
        assert [queue.count_waiting(session, at(second), at_most=5) for second in (9, 10)] == [0, 1]
        assert queue.count_queued(session, at_most=5) == 1
    assert claim(database, seconds=9) == []
    assert len(claim(database, seconds=10)) == 1


@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_case_that_must_be_tried_alone_has_no_neighbours_wherever_it_waits(database, clinic_id, position):
    suspect = [submit(database, clinic_id).id for _ in range(3)][position]
    for lease in claim(database):
        give_back(database, lease, alone=lease.case_id == suspect)
    one, two = sorted([claim(database), claim(database)], key=len)
    assert [(lease.case_id, lease.alone) for lease in one] == [(suspect, True)]
    assert [lease.alone for lease in two] == [False, False]


def test_concurrent_claimers_never_get_the_same_case_and_together_get_all(database, clinic_id):
    with database.writing() as session:
        sent = {cases.add_case(session, new_case(clinic_id), at(0)).id for _ in range(200)}
    together = threading.Barrier(4)

    def claim_until_none_waits(_) -> list[UUID]:
        together.wait()
        return [lease.case_id for batch in iter(lambda: claim(database, 3), []) for lease in batch]

    with ThreadPoolExecutor(4) as threads:
        claimed = [case_id for found in threads.map(claim_until_none_waits, range(4)) for case_id in found]
    assert len(claimed) == 200
    assert set(claimed) == sent


@on_postgresql
@pytest.mark.timeout(30)
def test_a_claimer_on_postgresql_does_not_wait_for_one_that_has_not_committed(database, clinic_id):
    first, second = submit(database, clinic_id), submit(database, clinic_id)
    with database.writing() as session:
        held = queue.claim_cases(session, 1, 60, at(0))
        assert [lease.case_id for lease in [*held, *claim(database, 1)]] == [first.id, second.id]


@on_postgresql
def test_a_cancellation_concurrent_with_a_result_waits_for_it_and_finds_the_case_final(database, clinic_id):
    case = submit(database, clinic_id)
    (lease,) = claim(database)

    def cancel() -> None:
        with database.writing() as session:
            cases.cancel_case(session, clinic_caller(clinic_id), case.id, at(2))

    with ThreadPoolExecutor(1) as thread, database.writing() as session:
        queue.record_analyses(session, [(lease, analysis_of(lease), MAPS)], at(1))
        crossing = thread.submit(cancel)
        wait_until(lambda: is_waiting_for_a_lock(database))
    with pytest.raises(Conflict, match="case_is_final"):
        crossing.result()
    assert stored(database, case.id)["state"] == "succeeded"


def test_recording_again_is_fine_for_the_same_result_and_refused_for_another(database, clinic_id):
    case = submit(database, clinic_id)
    (lease,) = claim(database)
    assert record(database, lease) is True
    after_first = stored(database, case.id)
    assert (after_first["state"], after_first["finished_at"]) == ("succeeded", at(1))
    assert record(database, lease, 5) is True
    assert record(database, lease, 5, key="another/overlay.png") is False
    assert stored(database, case.id) == after_first
    assert overlays(database) == {case.id: overlay_key(clinic_id, case.id, lease.token)}


def test_a_result_that_comes_after_the_case_went_to_another_worker_is_refused(database, clinic_id):
    case = submit(database, clinic_id)
    (late,) = claim(database, seconds=0, lease_s=60)
    assert sweep(database, 61).returned == 1
    (lease,) = claim(database, seconds=62)
    assert (late.token == lease.token, lease.attempt, lease.alone) == (False, 2, True)
    assert [end(database, late, 63) for end in (record, reject, give_back)] == [False] * 3
    assert stored(database, case.id)["state"] == "running"
    assert record(database, lease, 64) is True
    assert record(database, late, 65) is False
    assert overlays(database) == {case.id: overlay_key(clinic_id, case.id, lease.token)}


def test_in_a_batch_only_the_cases_whose_lease_is_lost_are_refused(database, clinic_id):
    cancelled, swept, kept, again = (submit(database, clinic_id, second).id for second in range(4))
    leases = {lease.case_id: lease for lease in claim(database, seconds=4)}
    assert record(database, leases[again], 5) is True
    with database.writing() as session:
        cases.cancel_case(session, clinic_caller(clinic_id), cancelled, at(6))
    give_back(database, leases[swept], 6)
    (taken,) = claim(database, seconds=7)
    with database.writing() as session:
        found = [(lease, analysis_of(lease), MAPS) for lease in leases.values()]
        assert queue.record_analyses(session, found, at(8)) == queue.Recorded({kept}, {again})
    states = {case_id: stored(database, case_id)["state"] for case_id in leases}
    assert states == {cancelled: "cancelled", swept: "running", kept: "succeeded", again: "succeeded"}
    assert (stored(database, swept)["lease_token"], stored(database, again)["finished_at"]) == (taken.token, at(5))
    assert set(overlays(database)) == {kept, again}


def test_every_result_of_a_batch_belongs_to_its_own_case(database, clinic_id):
    urgency = {submit(database, clinic_id, priority=priority).id: priority for priority in (*Priority, *Priority)}
    leases = claim(database)
    found = [
        (lease, replace(analysis_of(lease), probabilities=(share, 1 - share, 0), decision=decision), MAPS)
        for lease, share, decision in zip(leases, (0.1, 0.2, 0.6, 0.9), [*Decision] * 2, strict=True)
    ]
    with database.writing() as session:
        queue.record_analyses(session, found, at(1))
    for lease, analysis, _ in found:
        row, first = stored(database, lease.case_id), 0 if urgency[lease.case_id] is Priority.URGENT else 2
        assert row["review_rank"] == pytest.approx(first - analysis.melanoma_probability)
        assert (row["decision"], row["finished_at"], row["version"]) == (analysis.decision, at(1), 3)


def test_a_batch_is_recorded_with_as_few_statements_as_one_case_and_locked_in_one_order(database, clinic_id):
    statements = []
    event.listen(database.engine, "before_cursor_execute", lambda *call: statements.append(call[2]))

    def statements_for(number: int) -> list[str]:
        for _ in range(number):
            submit(database, clinic_id)
        leases = claim(database)
        statements.clear()
        with database.writing() as session:
            queue.record_analyses(session, [(lease, analysis_of(lease), MAPS) for lease in leases], at(1))
        statements[:] = [statement for statement in statements if not statement.startswith("BEGIN")]
        return [statement.split()[0] for statement in statements]

    assert statements_for(1) == statements_for(16) == ["SELECT", "INSERT", "UPDATE"]
    assert "ORDER BY cases.id" in statements[0]  # or two callers that record the same cases may deadlock


def test_a_problem_ends_a_case_with_its_code_and_without_a_result(database, clinic_id):
    case = submit(database, clinic_id)
    (lease,) = claim(database)
    assert [reject(database, lease), reject(database, lease), record(database, lease)] == [True, False, False]
    row = stored(database, case.id)
    assert (row["state"], row["error_code"], row["error_detail"]) == ("rejected", NOT_SKIN.code, NOT_SKIN.detail)
    assert (row["finished_at"], row["lease_token"], row["lease_expires_at"]) == (at(1), None, None)
    assert overlays(database) == {}


@pytest.mark.parametrize(("counted", "attempt"), [(True, 2), (False, 1)])
def test_only_an_attempt_that_the_case_is_to_blame_for_is_counted(database, clinic_id, counted, attempt):
    submit(database, clinic_id)
    (lease,) = claim(database)
    assert give_back(database, lease, counted=counted) is True
    assert give_back(database, lease, counted=counted) is False
    (again,) = claim(database)
    assert again.attempt == attempt


def test_a_valid_lease_is_left_alone_and_an_expired_one_returns_its_case_to_be_tried_alone(database, clinic_id):
    expired, lasting = submit(database, clinic_id), submit(database, clinic_id)
    claim(database, 1, lease_s=10)
    (kept,) = claim(database, 1, lease_s=60)
    assert sweep(database, 10) == queue.Sweep(returned=0, failed=[])
    assert sweep(database, 11) == queue.Sweep(returned=1, failed=[])
    assert sweep(database, 11) == queue.Sweep(returned=0, failed=[])
    row = stored(database, expired.id)
    assert (row["state"], row["alone"], row["available_at"], row["lease_token"]) == ("queued", True, at(11), None)
    assert stored(database, lasting.id)["lease_token"] == kept.token


def test_a_lease_given_before_the_clock_was_set_back_is_over(database, clinic_id):
    submit(database, clinic_id)
    claim(database, seconds=7200, lease_s=LONGEST_LEASE_S)
    assert sweep(database, 7200).returned == 0
    assert sweep(database, 0).returned == 1


def test_a_case_whose_worker_vanished_every_time_fails_and_needs_a_person(database, clinic_id):
    case = submit(database, clinic_id)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        (lease,) = claim(database, seconds=100 * attempt, lease_s=60)
        assert lease.attempt == attempt
        swept = sweep(database, 100 * attempt + 61)
        assert (swept.returned, len(swept.failed)) == ((1, 0) if attempt < MAX_ATTEMPTS else (0, 1))
    row = stored(database, case.id)
    assert (row["state"], row["error_code"], row["lease_token"]) == ("failed", "analysis_interrupted", None)
    assert row["finished_at"] == at(100 * MAX_ATTEMPTS + 61)
    assert claim(database, seconds=9999) == []


def test_counting_what_waits_stops_where_it_was_told_to(database, clinic_id):
    for _ in range(5):
        submit(database, clinic_id)
    with database.reading() as session:
        assert [queue.count_waiting(session, at(0), at_most) for at_most in (3, 9)] == [3, 5]
        assert [queue.count_queued(session, at_most) for at_most in (3, 9)] == [3, 5]
