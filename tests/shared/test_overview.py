"""The queue in numbers, from cases whose times the test chose; and workers as they report."""

from datetime import datetime
from uuid import UUID, uuid4

import pytest

from shared.domain import workers_needed
from shared.store import overview, workers
from shared.store.overview import ClinicLoad, Hour
from shared.store.workers import Worker
from tests.factories import add_clinic
from tests.shared.steps import MODEL, at, claim, give_back, load_model, record, reject, submit, sweep


@pytest.fixture
def clinic_id(database) -> UUID:
    load_model(database)
    return add_clinic(database, "North")


def loads(database, seconds: float = 10) -> list[ClinicLoad]:
    with database.reading() as session:
        return list(overview.list_loads(session, at(seconds)))


def hours(database, seconds: float, number: int = 24) -> list[Hour]:
    with database.reading() as session:
        return list(overview.list_hours(session, at(seconds), number))


def note(database, seconds: float, **changes) -> UUID:
    worker = Worker(uuid4(), "here:1", "cpu", 16, MODEL, None)
    worker = Worker(**vars(worker) | changes)
    with database.writing() as session:
        workers.note_worker(session, worker, at(seconds))
    return worker.id


def known(database, seconds: float) -> list[workers.KnownWorker]:
    with database.reading() as session:
        return list(workers.list_workers(session, at(seconds)))


def test_what_waits_and_runs_is_counted_for_each_clinic_the_busiest_first(database, clinic_id):
    south = add_clinic(database, "South")
    add_clinic(database, "Idle")
    for seconds in (1, 0):
        submit(database, clinic_id, seconds)
    claim(database, seconds=1)
    for seconds in (3, 2):
        submit(database, south, seconds)
    assert loads(database) == [
        ClinicLoad(south, "South", 2, 0, at(2), None, at(2)),
        ClinicLoad(clinic_id, "North", 0, 2, None, at(0), None),
    ]


def longest_wait_since(database, seconds: float) -> datetime | None:
    (load,) = loads(database, seconds)
    return load.longest_wait_since


def test_a_case_whose_photograph_is_inaccessible_does_not_wait_for_a_worker(database, clinic_id):
    submit(database, clinic_id)
    (lease,) = claim(database)
    give_back(database, lease, 7000)
    assert [longest_wait_since(database, seconds) for seconds in (6940, 7000)] == [None, at(0)]
    submit(database, clinic_id, 6000)
    assert longest_wait_since(database, 6940) == at(6000)


def test_while_the_store_is_unavailable_a_case_waits_on(database, clinic_id):
    submit(database, clinic_id)
    (lease,) = claim(database)
    give_back(database, lease, 7000)
    assert [longest_wait_since(database, seconds) for seconds in (6995, 7000, 7300)] == [at(0)] * 3


def test_a_case_that_is_tried_again_alone_waits_anew(database, clinic_id):
    submit(database, clinic_id)
    claim(database)
    sweep(database, 7000)
    assert longest_wait_since(database, 7300) == at(7000)


def test_arrivals_are_counted_from_a_moment_on(database, clinic_id):
    for seconds in (0, 10, 20):
        submit(database, clinic_id, seconds)
    with database.reading() as session:
        assert [overview.count_arrivals(session, at(seconds)) for seconds in (0, 10, 21)] == [3, 2, 0]


def test_an_hour_tells_what_ended_in_it_and_how_long_that_took(database, clinic_id):
    for latency in range(1, 21):
        submit(database, clinic_id, 100)
        (lease,) = claim(database, seconds=100)
        record(database, lease, 100 + latency)
    submit(database, clinic_id, 3590)
    (lease,) = claim(database, seconds=3590)
    reject(database, lease, 3610)
    submit(database, clinic_id, 3600)
    first, second = hours(database, 4000)
    assert (first.start, first.succeeded, first.rejected, first.failed) == (at(0), 20, 0, 0)
    assert (first.median_s, first.p95_s) == pytest.approx((10, 19), abs=0.002)
    assert (second.start, second.succeeded, second.rejected, second.median_s) == (at(3600), 0, 1, pytest.approx(20))


def test_hours_long_past_are_left_out(database, clinic_id):
    submit(database, clinic_id)
    (lease,) = claim(database)
    record(database, lease, 3599)
    assert [len(hours(database, seconds, 2)) for seconds in (7199, 7200)] == [1, 0]


def test_a_worker_is_alive_while_its_heart_beats_and_forgotten_after_a_day(database, clinic_id):
    worker_id = note(database, 0)
    note(database, 20, id=worker_id, images_per_minute=90.5)
    (found,) = known(database, 49)
    assert (found.worker.images_per_minute, found.model_name) == (90.5, "made-up")
    assert (found.alive, found.started_at, found.seen_at) == (True, at(0), at(20))
    assert [worker.alive for worker in known(database, 51)] == [False]
    assert known(database, 86_421) == []


def test_a_worker_that_has_shut_down_is_not_alive(database, clinic_id):
    worker_id = note(database, 0)
    with database.writing() as session:
        workers.note_worker_stopped(session, worker_id, at(5))
    assert [(worker.alive, worker.seen_at) for worker in known(database, 6)] == [(False, at(5))]


def test_a_heartbeat_removes_workers_that_are_long_gone(database, clinic_id):
    note(database, 0)
    young = note(database, 86_401)
    assert [worker.worker.id for worker in known(database, 100)] == [young]


@pytest.mark.parametrize(
    ("waiting", "arriving", "minutes", "rate", "needed"),
    [(600, 0, 10, 60, 1), (601, 0, 10, 60, 2), (600, 60, 10, 60, 2), (0, 0, 10, 60, 0), (5, 0, 1, None, None)],
)
def test_how_many_workers_a_backlog_needs(waiting, arriving, minutes, rate, needed):
    assert workers_needed(waiting, arriving, minutes, rate) == needed
