"""Whether a worker makes progress can be told from outside, and other failures do not count against it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.database import Database, open_database
from shared.dispatch import Doorbell, make_celery
from shared.settings import Settings
from tests.factories import add_case, add_clinic, variables_of
from tests.rehearsal import sleeping_worker
from tests.shared.steps import submit
from tests.waiting import wait_until
from worker.progress import has_stalled

LIMIT_S = 0.5


@pytest.fixture
def file(tmp_path) -> Path:
    """Touched longer ago than the limit."""
    path = tmp_path / "progress"
    path.touch()
    os.utime(path, (time.time() - 2 * LIMIT_S,) * 2)
    return path


@pytest.fixture
def stalled(settings, database, file) -> Callable[..., bool]:
    def ask(database: Database = database, **changes) -> bool:
        doorbell = Doorbell(make_celery(settings.model_copy(update=changes)))
        return has_stalled(file, LIMIT_S, database, doorbell)

    return ask


def let_a_case_wait(database: Database) -> None:
    submit(database, add_clinic(database))  # months ago


def test_a_worker_that_finishes_nothing_while_a_case_waits_has_stalled(stalled, database, file):
    let_a_case_wait(database)
    assert stalled()
    file.touch()
    assert not stalled()


def test_a_worker_with_nothing_to_do_has_not_stalled(stalled):
    assert not stalled()


def test_a_worker_has_not_stalled_if_the_case_has_only_just_come(settings, database, file):
    add_case(database, add_clinic(database))
    os.utime(file, (0, 0))
    assert not has_stalled(file, 3600, database, Doorbell(make_celery(settings)))


def test_a_worker_that_is_still_starting_has_not_stalled(stalled, database, file):
    let_a_case_wait(database)
    file.unlink()
    assert not stalled()


def test_a_worker_has_not_stalled_if_the_database_or_the_broker_is_unreachable(stalled, database, tmp_path):
    let_a_case_wait(database)
    assert not stalled(broker_url="redis://127.0.0.1:1/0")
    assert not stalled(database=open_database(f"sqlite:///{tmp_path / 'missing' / 'test.sqlite3'}"))


@pytest.fixture
def worker(settings: Settings, tmp_path) -> Iterator[subprocess.Popen]:
    """A real worker process, whose forward pass takes no time."""
    environment = os.environ | variables_of(settings) | {"DERMQUEUE_LEASE_S": "1"}
    command = (
        sys.executable,
        "-m",
        sleeping_worker.__name__,
        "0",
        "worker",
        "--progress-file",
        str(tmp_path / "progress"),
    )
    with subprocess.Popen(command, env=environment) as process:
        yield process
        process.send_signal(signal.SIGCONT)
        process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_process_that_hangs_is_detected_and_counts_as_healthy_once_it_goes_on(
    worker, settings, database, tmp_path
):
    file, doorbell = tmp_path / "progress", Doorbell(make_celery(settings))
    wait_until(file.exists, timeout_s=60)
    worker.send_signal(signal.SIGSTOP)
    let_a_case_wait(database)
    wait_until(lambda: has_stalled(file, LIMIT_S, database, doorbell))
    hung_since = file.stat().st_mtime
    worker.send_signal(signal.SIGCONT)
    doorbell.ring()
    wait_until(lambda: file.stat().st_mtime > hung_since)
    wait_until(lambda: not has_stalled(file, LIMIT_S, database, doorbell))
