"""Photographs that kill the process that decodes them, or hang it for ever."""

import hashlib
import itertools
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from deploy.embedded.program import Program
from tests.faults import poisoned_worker
from tests.faults.load import PHOTOGRAPHS
from tests.waiting import wait_until

POISON, *HARMLESS = PHOTOGRAPHS


def poisoned(rig, effect: str) -> Program:
    digest = hashlib.sha256(POISON.read_bytes()).hexdigest()
    return rig.further(f"{effect}-poisoned worker", poisoned_worker.__file__, effect, digest)


def poison_first(count: int) -> Sequence[Path]:
    return [POISON, *itertools.islice(itertools.cycle(HARMLESS), count - 1)]


@pytest.mark.briefly_on("postgresql")
def test_a_photograph_that_kills_its_worker_fails_after_three_attempts_and_its_neighbours_finish(rig, sizes):
    with rig.away("worker", how=signal.SIGTERM), rig.beside(poisoned(rig, "kill")):
        with rig.submitting(sizes.cases, poison_first(sizes.cases)) as load:
            pass
        rig.settle(load, "photograph that kills its worker", times=3)
    (failed,) = [trace for trace in rig.observe(load) if trace.state == "failed"]
    assert failed.id == load.accepted["photograph 0"]
    assert (failed.attempts, failed.error_code, failed.overlay_key) == (3, "analysis_interrupted", None)
    requeue(rig, failed.id)


def requeue(rig, case_id: str) -> None:
    """Give the case to a worker that can decode it, as an admin does once the bug is fixed."""
    with rig.stack.client("admin_key") as admin:
        assert admin.post(f"/v1/admin/failed/{case_id}/requeue").status_code == 202
    with rig.stack.client("reviewer_key") as reviewer:
        wait_until(lambda: reviewer.get(f"/v1/cases/{case_id}").json()["state"] == "succeeded", timeout_s=30)


@pytest.mark.briefly_on("embedded")
def test_a_worker_that_hangs_on_a_photograph_is_ended_by_its_watchdog_and_another_one_goes_on(rig, sizes):
    hanging = poisoned(rig, "hang")
    with rig.beside(hanging) as keeper:
        with rig.frozen("worker"), rig.submitting(sizes.cases, poison_first(sizes.cases)) as load:
            wait_until(lambda: load.accepted.get("photograph 0") in rig.in_hand(), timeout_s=60)
        wait_until(lambda: keeper.count(hanging.name, "died"), timeout_s=30)
        outcome = rig.settle(load, "photograph that hangs its worker")
    assert "worker_stuck" in rig.log_of(hanging.name)
    assert outcome.failed == 0
