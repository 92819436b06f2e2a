"""The doorbell, on a real Valkey: it rings where workers listen, and an unreachable broker holds nobody up."""

import json
import logging
import os
import signal
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from unittest.mock import Mock

import pytest
import time_machine
from celery import Celery
from redis import Redis

from deploy.embedded.program import find_free_port
from deploy.embedded.valkey import valkey_program, valkey_url
from deploy.schedulers import FileScheduler, MemoryScheduler
from shared import dispatch
from shared.dispatch import (
    ANALYZE,
    ANALYZE_QUEUE,
    DELIVER,
    PURGE,
    SWEEP,
    SWEEP_QUEUE,
    BackgroundDoorbell,
    Doorbell,
    make_celery,
)
from shared.settings import Settings
from tests.deploy.stage import Stage
from tests.waiting import await_rings, is_running, wait_until

PASSWORD = "the-brokers_password"


@pytest.fixture
def database_url() -> str:
    """No database is involved here, so nothing is tested once per kind."""
    return "sqlite:///not_opened.sqlite3"


@pytest.fixture
def broker_url(servers) -> str:
    """A database of the suite's Valkey that no other test uses."""
    return servers["broker_url"].removesuffix("/0") + "/9"


@pytest.fixture
def broker(broker_url) -> Iterator[Redis]:
    with Redis.from_url(broker_url) as client:
        client.flushdb()
        yield client


@pytest.fixture
def make(settings: Settings) -> Iterator[Callable[[str], Celery]]:
    """Makes Celery for a broker's URL, and closes its connections afterwards."""
    made = []

    def make(url: str) -> Celery:
        made.append(make_celery(settings.model_copy(update={"broker_url": url})))
        return made[-1]

    yield make
    for celery in made:
        celery.close()


def unreachable(caplog) -> int:
    return sum("doorbell_unreachable" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    ("url", "checks"),
    [
        ("rediss://:secret@redis.example:6380/0", ssl.CERT_REQUIRED),
        ("rediss://:secret@redis.example:6380/0?ssl_cert_reqs=none", ssl.CERT_NONE),
        ("redis://redis.example/0", None),
    ],
)
def test_a_brokers_certificate_is_checked_unless_the_address_says_otherwise(make, url, checks):
    transport = make(url).connection_for_write().transport
    assert (transport.client.ssl or {}).get("ssl_cert_reqs") == checks


def test_a_ring_is_one_message_for_the_analysis_and_carries_no_data(make, broker_url, broker):
    Doorbell(make(broker_url)).ring()
    (message,) = broker.lrange(ANALYZE_QUEUE, 0, -1)
    headers = json.loads(message)["headers"]
    assert (headers["task"], headers["argsrepr"], headers["kwargsrepr"]) == (ANALYZE, "()", "{}")


def test_ringing_for_many_batches_puts_one_message_for_each(make, broker_url, broker):
    bell = Doorbell(make(broker_url))
    bell.ring(times=3)
    bell.ring(times=0)
    assert broker.llen(ANALYZE_QUEUE) == 3


def test_rings_that_no_worker_has_taken_do_not_pile_up(make, broker_url, broker, monkeypatch):
    monkeypatch.setattr(dispatch, "_RINGS_KEPT", 5)
    bell = Doorbell(make(broker_url))
    for _ in range(3):
        bell.ring(times=3)
    assert broker.llen(ANALYZE_QUEUE) == 5
    broker.lpop(ANALYZE_QUEUE)
    bell.ring()
    bell.ring()
    assert broker.llen(ANALYZE_QUEUE) == 5


def test_sweeps_and_purges_go_to_a_queue_of_their_own(make, broker_url, broker):
    celery = make(broker_url)
    for task in (SWEEP, PURGE, DELIVER):
        celery.send_task(task)
    assert (broker.llen(SWEEP_QUEUE), broker.llen(ANALYZE_QUEUE)) == (3, 0)


def test_the_sweep_is_on_the_schedule_and_expires_when_no_worker_takes_it(make, broker_url, settings):
    schedule = make(broker_url).conf.beat_schedule
    assert [entry["task"] for entry in schedule.values()] == [SWEEP, DELIVER, PURGE]
    assert schedule[SWEEP]["schedule"] == settings.sweep_interval_s
    # Machines whose clocks differ by a minute must not take each other's messages for expired.
    assert schedule[SWEEP]["options"]["expires"] > 60


def test_the_purge_is_due_once_a_day_at_a_fixed_time_so_that_a_restart_of_beat_does_not_postpone_it(make, broker_url):
    purge = make(broker_url).conf.beat_schedule[PURGE]
    assert (purge["schedule"].hour, purge["schedule"].minute) == ({3}, {17})
    assert 3600 < purge["options"]["expires"] < 24 * 3600


def test_a_purge_that_a_machine_slept_through_is_made_up_for_and_only_that(make, broker_url, tmp_path):
    def due_at(moment: str) -> list[str]:
        with time_machine.travel(moment, tick=False):
            scheduler = FileScheduler(make(broker_url), schedule_filename=str(tmp_path / "beat"))
            due = [name for name, entry in scheduler.schedule.items() if entry.is_due().is_due]
            for name in due:
                scheduler.schedule[name] = next(scheduler.schedule[name])
            scheduler.close()
        return due

    assert PURGE not in due_at("2026-03-02T09:00Z")
    assert PURGE not in due_at("2026-03-02T17:00Z")
    assert PURGE in due_at("2026-03-03T09:00Z")
    assert PURGE not in due_at("2026-03-03T10:00Z")


@pytest.mark.parametrize("scheduler_class", [MemoryScheduler, FileScheduler])
def test_beat_goes_on_when_the_clock_is_set_back(make, broker_url, broker, tmp_path, scheduler_class):
    scheduler = scheduler_class(make(broker_url), schedule_filename=str(tmp_path / "beat"))
    for moment in ("2026-03-03T09:00Z", "2026-03-03T09:00:06Z", "2026-03-02T09:00Z"):
        broker.delete(SWEEP_QUEUE)
        with time_machine.travel(moment, tick=False):
            while scheduler.tick() == 0:
                pass
    with time_machine.travel("2026-03-02T09:00:06Z", tick=False):
        while scheduler.tick() == 0:
            pass
    scheduler.close()
    assert broker.llen(SWEEP_QUEUE) == 2  # a sweep and the webhooks' messages


def test_a_broker_that_answers_passes_the_check(make, broker_url):
    assert Doorbell(make(broker_url)).check() is True


@pytest.mark.parametrize("away", ["closed port", "wrong password"])
def test_a_broker_that_is_away_fails_the_check_and_swallows_the_ring_quickly(make, broker_url, caplog, away):
    closed = f"redis://127.0.0.1:{find_free_port()}"
    refused = f"redis://:wrong@{broker_url.rpartition('@')[2]}"
    bell = Doorbell(make(closed if away == "closed port" else refused))
    begun_s = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert bell.check() is False
        bell.ring()
    assert time.monotonic() - begun_s < 8
    assert unreachable(caplog) == 1
    assert "wrong" not in caplog.text


def test_after_a_failure_the_bell_is_silent_for_a_moment_and_then_tries_again(make, caplog, monkeypatch):
    bell = Doorbell(make(f"redis://127.0.0.1:{find_free_port()}"))
    monkeypatch.setattr(dispatch, "_PAUSE_AFTER_FAILURE_S", 600.0)
    with caplog.at_level(logging.WARNING):
        bell.ring()
        begun_s = time.monotonic()
        for _ in range(100):
            bell.ring()
        assert time.monotonic() - begun_s < 0.5
        assert unreachable(caplog) == 1
        monkeypatch.setattr(bell, "_silent_until", time.monotonic())
        bell.ring()
    assert unreachable(caplog) == 2


def test_a_broker_that_is_full_is_logged_and_not_raised(make, tmp_path, caplog):
    port = find_free_port()
    with Stage(tmp_path) as stage, Redis(port=port, password=PASSWORD) as client:
        stage.start(valkey_program(tmp_path, port, PASSWORD))
        client.config_set("maxmemory", 1)
        with caplog.at_level(logging.WARNING):
            Doorbell(make(valkey_url(port, PASSWORD))).ring()
    assert unreachable(caplog) == 1


def test_a_broker_that_dies_after_a_ring_is_rung_again_as_soon_as_it_is_back(make, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(dispatch, "_PAUSE_AFTER_FAILURE_S", 0.0)
    port = find_free_port()
    with Stage(tmp_path) as stage, Redis(port=port, password=PASSWORD) as client:
        stage.start(valkey_program(tmp_path, port, PASSWORD))
        bell = Doorbell(make(valkey_url(port, PASSWORD)))
        bell.ring()
        os.kill(stage.pid("valkey"), signal.SIGKILL)
        wait_until(lambda: not is_running(stage.pid("valkey")))
        with caplog.at_level(logging.WARNING):
            bell.ring()
        assert unreachable(caplog) == 1
        stage.run_until(lambda: stage.count("valkey", "ready") == 2)
        client.delete(ANALYZE_QUEUE)
        bell.ring()
        assert client.llen(ANALYZE_QUEUE) == 1


class SlowDoorbell:
    """Records how many rings had been requested when each began, and takes a while for each."""

    def __init__(self):
        self.asked, self.asked_before_ring = 0, []
        self.may_end = threading.Event()

    def ring(self) -> None:
        self.asked_before_ring.append(self.asked)
        self.may_end.wait(10)


def test_a_caller_of_a_busy_bell_does_not_wait_and_is_rung_for_afterwards(monkeypatch):
    monkeypatch.setattr(dispatch, "_RING_AT_MOST_EVERY_S", 0.0)
    slow = SlowDoorbell()
    bell = BackgroundDoorbell(slow)
    for _ in range(100):
        slow.asked += 1
        bell.ring()
    wait_until(lambda: slow.asked_before_ring)
    slow.may_end.set()
    wait_until(lambda: slow.asked_before_ring[-1] == 100)
    assert len(slow.asked_before_ring) <= 2


def test_a_busy_bell_rings_again_after_an_unforeseen_error(monkeypatch):
    monkeypatch.setattr("threading.excepthook", lambda _: None)
    rung = []

    class Breaking:
        def ring(self) -> None:
            rung.append(len(rung))
            if len(rung) == 1:
                raise RuntimeError("unforeseen")

    bell = BackgroundDoorbell(Breaking())
    bell.ring()
    wait_until(lambda: rung == [0] and not bell._is_ringing)
    bell.ring()
    wait_until(lambda: rung == [0, 1])


def test_a_busy_bell_rings_again_after_the_system_had_no_thread_for_it(make, broker_url, broker, monkeypatch, caplog):
    bell = BackgroundDoorbell(Doorbell(make(broker_url)))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
        bell.ring()
    assert "doorbell_not_rung" in caplog.text
    bell.ring()
    wait_until(lambda: broker.llen(ANALYZE_QUEUE) == 1)


def test_a_bell_that_was_idle_for_a_while_rings_at_once_and_leaves_no_thread(make, broker_url, broker):
    bell = BackgroundDoorbell(Doorbell(make(broker_url)))
    for rings in (1, 2):
        bell.ring()
        wait_until(lambda rings=rings: broker.llen(ANALYZE_QUEUE) == rings)
        await_rings()
    assert bell.check() is True


def test_a_busy_bell_limits_how_often_it_rings(make, broker_url, broker, monkeypatch):
    monkeypatch.setattr(dispatch, "_RING_AT_MOST_EVERY_S", 0.2)
    bell = BackgroundDoorbell(Doorbell(make(broker_url)))
    for _ in range(50):
        bell.ring()
    await_rings()
    assert 1 <= broker.llen(ANALYZE_QUEUE) <= 3
