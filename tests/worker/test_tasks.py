"""How a worker process ends by itself, and what becomes of a purge when one ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest

from shared.dispatch import PURGE, Doorbell, make_celery
from shared.errors import Unavailable
from shared.settings import Settings
from tests.factories import add_photograph, variables_of
from tests.faults.network.proxy import LoseAnswers, Proxy
from tests.waiting import wait_until
from tests.worker import deviceless_worker, hasty_worker
from tests.worker.steps import jpeg, open_upload, open_uploads, state_of
from worker.tasks import EXIT_DEVICE_LOST, register_tasks


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_process_whose_device_is_dead_ends_and_leaves_its_cases_as_they_were(
    settings, database, store, clinic_id
):
    case = add_photograph(database, store, clinic_id, jpeg())
    command = (sys.executable, "-m", deviceless_worker.__name__, "worker")
    variables = variables_of(settings) | {"DERMQUEUE_DEVICE": "cpu"}
    with subprocess.Popen(command, env=os.environ | variables, stderr=subprocess.PIPE, text=True) as process:
        Doorbell(make_celery(settings)).ring()
        _, logged = process.communicate(timeout=60)
    assert process.returncode == EXIT_DEVICE_LOST
    assert "worker_ready model=tiny version=1 device=cpu" in logged
    assert state_of(database, case) == ("queued", None, 0)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)  # once: Celery shares a process's tasks
def test_a_purge_is_tried_until_it_is_complete(settings):
    left = [Unavailable("storage_unavailable", "no"), False, Unavailable("database_unavailable", "no"), True]

    def purge() -> bool:
        outcome = left.pop(0)
        if isinstance(outcome, Unavailable):
            raise outcome
        return outcome

    celery = make_celery(settings)
    register_tasks(celery, None, SimpleNamespace(purge=purge), None)
    assert celery.tasks[PURGE].apply().successful()
    assert left == []


@contextmanager
def hasty(settings: Settings, log: Path) -> Iterator[subprocess.Popen]:
    """Run a worker that logs only warnings; tell it to stop at the end, and wait until it has."""
    variables = os.environ | variables_of(settings) | {"DERMQUEUE_LOG_LEVEL": "warning"}
    command = (sys.executable, "-m", hasty_worker.__name__, "worker")
    with log.open("ab") as file, subprocess.Popen(command, env=variables, stderr=file) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_purge_in_which_a_worker_loses_the_store_and_is_stopped_is_completed_by_the_next_one(
    settings, database, store, clinic_id, tmp_path
):
    upload_id, log = open_upload(database, store, clinic_id, 2), tmp_path / "log"
    losing = LoseAnswers((str(upload_id).encode(),), one_in=1, hold_s=2.0)
    with Proxy(urlsplit(settings.s3_endpoint_url).port) as network:
        proxied = settings.model_copy(update={"s3_endpoint_url": network.url})
        with network.behaving(losing), hasty(proxied, log):
            make_celery(settings).send_task(PURGE, expires=3600)
            wait_until(lambda: losing.lost == 1, timeout_s=60)
    assert open_uploads(database) == {upload_id}
    assert "task_postponed task=purge code=storage_unavailable" in log.read_text()
    with hasty(settings, log):
        wait_until(lambda: open_uploads(database) == set(), timeout_s=60)
    assert log.read_text().count("audit_head entries=0 hash=") == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_with_one_thread_goes_on_analysing_during_a_purge(settings, database, store, clinic_id, tmp_path):
    uploads, log = {open_upload(database, store, clinic_id, 2) for _ in range(10)}, tmp_path / "log"
    never_answering = LoseAnswers((f"uploads/{clinic_id}".encode(),), one_in=1, hold_s=60.0)
    own_broker = settings.broker_url.removesuffix("/0") + "/7"  # no other test's purge takes the second thread
    with Proxy(urlsplit(settings.s3_endpoint_url).port) as network, network.behaving(never_answering):
        changes = {"broker_url": own_broker, "s3_endpoint_url": network.url, "worker_threads": 1}
        settings = settings.model_copy(update=changes)
        with hasty(settings, log):
            make_celery(settings).send_task(PURGE, expires=3600)
            wait_until(lambda: never_answering.answers, timeout_s=60)
            case = add_photograph(database, store, clinic_id, jpeg())
            Doorbell(make_celery(settings)).ring()
            wait_until(lambda: state_of(database, case)[0] == "succeeded", timeout_s=60)
            assert open_uploads(database) == uploads
            assert "purged cases=" not in log.read_text()  # each upload is waited for, for seconds
