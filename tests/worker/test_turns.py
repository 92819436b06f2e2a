"""When a worker gives up its turn, what the sweeper hands on, and how long recording waits for a database."""

from types import SimpleNamespace

import pytest
from sqlalchemy import select, update

from shared.errors import Unavailable
from shared.store import queue
from shared.tables import CaseRow
from tests.factories import add_case, add_photograph
from tests.worker.conftest import CountingDoorbell
from tests.worker.steps import jpeg, state_of
from worker import triage as triage_module


def refuse(*_) -> None:
    raise Unavailable("unavailable", "away")


def test_a_task_whose_time_slice_is_over_rings_for_what_still_waits_and_one_that_finished_all_does_not(
    make_triage, database, store, clinic_id, monkeypatch
):
    case, doorbell = add_photograph(database, store, clinic_id, jpeg()), CountingDoorbell()
    triage = make_triage(doorbell=doorbell)
    with monkeypatch.context() as patched:
        patched.setattr(triage_module, "_SLICE_S", 0)
        triage.analyze_waiting()
    assert (state_of(database, case)[0], doorbell.rings) == ("queued", 1)
    triage.analyze_waiting()
    assert (state_of(database, case)[0], doorbell.rings) == ("succeeded", 1)


@pytest.mark.parametrize(("waiting", "rings"), [(0, 0), (1, 1), (3, 2), (10, 2)])
def test_the_sweeper_rings_once_per_batch_and_for_no_more_than_a_worker_takes_at_once(
    make_triage, database, clinic_id, waiting, rings
):
    doorbell = CountingDoorbell()
    for _ in range(waiting):
        add_case(database, clinic_id)
    make_triage(doorbell=doorbell, batch_size=2, worker_threads=2).sweep()
    assert doorbell.rings == rings


def test_the_sweeper_ranks_cases_that_an_older_version_has_ended(make_triage, database, store, clinic_id):
    add_photograph(database, store, clinic_id, jpeg())
    triage = make_triage()
    triage.analyze_waiting()
    ranking = select(CaseRow.review_rank, CaseRow.decision)
    with database.writing() as session:
        ranked = session.execute(ranking).one()
        session.execute(update(CaseRow).values(review_rank=None, decision=None))
    triage.sweep()
    with database.reading() as session:
        assert session.execute(ranking).one() == ranked != (None, None)


@pytest.mark.parametrize("alone", [True, False])
def test_a_case_that_is_tried_alone_stays_so_through_an_outage_of_the_store(
    make_triage, database, store, clinic_id, monkeypatch, alone
):
    case = add_photograph(database, store, clinic_id, jpeg())
    with database.writing() as session:
        session.execute(update(CaseRow).values(alone=alone))
    monkeypatch.setattr(store, "get", refuse)
    make_triage().analyze_waiting()
    assert state_of(database, case) == ("queued", None, 0)
    with database.reading() as session:
        assert session.scalar(select(CaseRow.alone)) is alone


def test_recording_is_tried_for_half_a_lease_and_then_left_to_the_sweeper(
    make_triage, database, store, clinic_id, monkeypatch
):
    case, clock = add_photograph(database, store, clinic_id, jpeg()), SimpleNamespace(now_s=0.0)

    def sleep(seconds: float) -> None:
        clock.now_s += seconds

    monkeypatch.setattr(triage_module, "time", SimpleNamespace(monotonic=lambda: clock.now_s, sleep=sleep))
    monkeypatch.setattr(queue, "record_analyses", refuse)
    with pytest.raises(Unavailable):
        make_triage(lease_s=10).analyze_waiting()
    assert 5 < clock.now_s <= 6
    assert state_of(database, case) == ("running", None, 1)
