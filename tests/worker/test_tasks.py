"""How a worker process ends by itself."""

import os
import subprocess
import sys

import pytest

from shared.dispatch import Doorbell, make_celery
from tests.factories import add_photograph, variables_of
from tests.worker import deviceless_worker
from tests.worker.test_triage import jpeg, state_of
from worker.tasks import EXIT_DEVICE_LOST


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_worker_process_whose_device_is_dead_ends_and_leaves_its_cases_as_they_were(
    settings, database, store, clinic_id
):
    case = add_photograph(database, store, clinic_id, jpeg())
    command = (sys.executable, "-m", deviceless_worker.__name__, "worker")
    with subprocess.Popen(command, env=os.environ | variables_of(settings)) as process:
        Doorbell(make_celery(settings)).ring()
        assert process.wait(60) == EXIT_DEVICE_LOST
    assert state_of(database, case) == ("queued", None, 0)
