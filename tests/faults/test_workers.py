"""Workers and beat that are killed, stopped and frozen while cases wait."""

import itertools
import random
import time

import pytest

from tests.faults.rig import until_work_moves_again
from tests.faults.sizes import BATCH_SIZE, LEASE_S, SEED

LONGEST_BATCH_S = 0.5


@pytest.mark.briefly_on("postgresql")
def test_workers_killed_at_random_moments_lose_nothing_and_double_nothing(rig, sizes):
    dice = random.Random(SEED)
    moments = sorted(dice.sample(range(sizes.storm_cases), sizes.storm_kills - 1))
    with rig.beside(rig.further("worker", "second worker")), rig.submitting(sizes.storm_cases) as load:
        with rig.frozen("second worker"):  # so that all cases in hand are the other's
            rig.await_work(at_least=BATCH_SIZE)
            killed_at = rig.kill("worker")
            struck = rig.in_hand()
        rig.await_end_of_one(load, struck)
        for moment, victim in zip(moments, itertools.cycle(["second worker", "worker"]), strict=False):
            rig.await_ends(load, moment)
            time.sleep(dice.uniform(0, LONGEST_BATCH_S))
            rig.kill(victim)
        recovery = until_work_moves_again(struck, killed_at)
        outcome = rig.settle(load, "worker killed", times=sizes.storm_kills, recovery=recovery, timeout_s=1200)
    assert outcome.recovery_s <= LEASE_S + 5
