"""What a worker reports of itself: its rate, that it is alive, that it has stopped."""

from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import pytest
from sqlalchemy import delete

from shared.database import open_database, read_clock
from shared.store import workers
from shared.store.workers import Worker
from shared.tables import ModelRow
from tests.factories import add_photograph
from tests.waiting import wait_until
from tests.worker.networks import tiny_model
from tests.worker.steps import jpeg, state_of
from worker.heartbeat import Heartbeat, Meter, process_name
from worker.main import announce_model


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


MODEL = tiny_model()


@pytest.fixture
def worker(database) -> Worker:
    with database.writing() as session:
        announce_model(MODEL, session, read_clock(session))
    return Worker(uuid4(), process_name(), "cpu", 16, MODEL.digest, None)


def heart_of(worker: Worker, database) -> Heartbeat:
    return Heartbeat(database, worker, Meter(), partial(announce_model, MODEL))


def known(database) -> list[workers.KnownWorker]:
    with database.reading() as session:
        return list(workers.list_workers(session, read_clock(session)))


def test_the_rate_counts_only_time_with_work(clock):
    meter = Meter(clock)
    assert meter.images_per_minute() is None
    for _ in range(2):
        with meter.measuring(10):
            clock.now += 5
        clock.now += 100
    assert meter.images_per_minute() == pytest.approx(120)


def test_time_of_overlapping_batches_counts_once(clock):
    meter = Meter(clock)
    with meter.measuring(10):
        with meter.measuring(10):
            clock.now += 4
        clock.now += 1
    assert meter.images_per_minute() == pytest.approx(240)


def test_batches_of_long_ago_no_longer_count(clock):
    meter = Meter(clock)
    with meter.measuring(10):
        clock.now += 5
    clock.now += 601
    assert meter.images_per_minute() is None


def test_a_batch_that_failed_does_not_count(clock):
    meter = Meter(clock)
    with pytest.raises(ZeroDivisionError), meter.measuring(10):
        clock.now /= 0
    assert meter.images_per_minute() is None


def test_a_worker_is_alive_from_its_start_to_its_end(database, worker):
    heartbeat = heart_of(worker, database)
    heartbeat.beat()
    assert [(found.worker.id, found.alive) for found in known(database)] == [(worker.id, True)]
    with heartbeat.beating():
        pass
    assert [(found.worker.id, found.alive) for found in known(database)] == [(worker.id, False)]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_an_unreachable_database_stops_nothing(worker, tmp_path, caplog):
    away = open_database(f"sqlite:///{tmp_path / 'missing' / 'test.sqlite3'}")
    heart_of(worker, away).beat()
    assert "heartbeat_missed code=database_unavailable" in caplog.text


def test_no_error_ends_the_heartbeat(database, worker, caplog):
    heartbeat = heart_of(replace(worker, model_digest="not announced"), database)
    with heartbeat.beating():
        wait_until(lambda: "heartbeat_missed" in caplog.text)
        assert heartbeat._thread.is_alive()


def test_a_restored_database_that_lacks_the_bundle_is_given_it_again(make_triage, database, store, clinic_id, worker):
    triage = make_triage(MODEL)
    with database.writing() as session:
        session.execute(delete(ModelRow))
    heart_of(worker, database).beat()
    case = add_photograph(database, store, clinic_id, jpeg())
    triage.analyze_waiting()
    assert state_of(database, case)[0] == "succeeded"
    assert [found.worker.id for found in known(database)] == [worker.id]


def test_what_triage_analyses_is_measured(make_triage, database, store, clinic_id: UUID):
    triage = make_triage()
    assert triage.meter.images_per_minute() is None
    add_photograph(database, store, clinic_id, jpeg())
    triage.analyze_waiting()
    assert triage.meter.images_per_minute() > 0
