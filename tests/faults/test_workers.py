"""Workers and beat that are killed, stopped and frozen while cases wait."""

import itertools
import random
import signal
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from shared.database import read_clock
from shared.domain import State
from shared.tables import CaseRow
from tests.faults.audit import until_first_end, until_work_moves_again
from tests.faults.sizes import BATCH_SIZE, LEASE_S, RECOVERY_S, SEED
from tests.waiting import wait_until

LONGEST_BATCH_S = 0.5


@pytest.mark.briefly_on("postgresql")
def test_workers_killed_at_random_moments_lose_nothing_and_duplicate_nothing(rig, sizes):
    dice = random.Random(SEED)
    moments = sorted(dice.sample(range(sizes.storm_cases), sizes.storm_kills - 1))
    with rig.beside(rig.further("second worker")), rig.submitting(sizes.storm_cases) as load:
        with rig.frozen("second worker"):  # so that all cases in hand are the other's
            rig.await_work(at_least=BATCH_SIZE)
            killed_at = rig.kill("worker")
            struck = rig.in_hand()
        rig.await_ends(load, 1, among=struck)
        for moment, victim in zip(moments, itertools.cycle(["second worker", "worker"]), strict=False):
            rig.await_ends(load, moment)
            time.sleep(dice.uniform(0, LONGEST_BATCH_S))
            rig.kill(victim)
        recovery = until_work_moves_again(struck, killed_at)
        outcome = rig.settle(load, "worker killed", times=sizes.storm_kills, recovery=recovery)
    assert outcome.recovery_s <= LEASE_S + 5


@pytest.mark.briefly_on("embedded")
def test_a_worker_that_is_told_to_stop_finishes_what_it_holds_and_leaves_the_rest_free(rig, sizes):
    with rig.frozen("worker"), rig.submitting(sizes.cases) as load:
        pass
    rig.await_work()
    told_at = datetime.now(UTC)
    with rig.away("worker", how=signal.SIGTERM):
        ended = [trace.finished_at for trace in rig.observe(load) if trace.state.is_final]
        assert rig.in_hand() == []
    assert sum(at > told_at for at in ended) <= rig.settings.worker_threads * BATCH_SIZE
    outcome = rig.settle(load, "worker told to stop", recovery=until_first_end(datetime.now(UTC)))
    assert outcome.failed == 0
    assert {trace.attempts for trace in rig.observe(load)} == {1}


@pytest.mark.briefly_on("postgresql")
def test_cases_whose_doorbells_are_all_lost_are_found_as_soon_as_beat_and_a_worker_are_back(rig, sizes):
    with rig.away("worker", "beat"):
        with rig.submitting(sizes.cases) as load:
            pass
        rig.broker.flushall()
    outcome = rig.settle(load, "worker and beat killed, messages lost", recovery=until_first_end(datetime.now(UTC)))
    assert outcome.failed == 0
    assert outcome.recovery_s <= RECOVERY_S


@pytest.mark.briefly_on("embedded")
def test_the_result_of_a_worker_that_slept_through_its_lease_is_refused(rig, sizes):
    # Its own lease is long, and so its watchdog patient: otherwise that would end it before it answers late.
    sleeper = rig.further("sleeping worker", DERMQUEUE_LEASE_S="120")
    with rig.beside(sleeper):
        with ExitStack() as sleep:
            # The other one is frozen before there is work: what it held would be refused to it, and not to the sleeper.
            with rig.frozen("worker"), rig.submitting(sizes.cases) as load:
                sleep.enter_context(rig.frozen("sleeping worker", when=rig.in_hand))
                struck = rig.in_hand()
                end_leases(rig)
            rig.await_ends(load, len(struck), among=struck)
        wait_until(lambda: rig.log_of("sleeping worker").count("late_result_refused") == len(struck), timeout_s=30)
        outcome = rig.settle(load, "worker frozen past its lease")
    assert (outcome.failed, outcome.orphaned) == (0, 0)


def end_leases(rig) -> None:
    """Let every lease run out a second ago."""
    with rig.database.writing() as session:
        past = read_clock(session) - timedelta(seconds=1)
        session.execute(update(CaseRow).where(CaseRow.state == State.RUNNING).values(lease_expires_at=past))
