"""Servers that are slow, silent or cut off: cases take longer, and other requests are not held up."""

import random
import time
from datetime import UTC, datetime
from functools import partial

import pytest

from tests.faults.audit import until_first_end
from tests.faults.load import PHOTOGRAPHS
from tests.faults.network.proxy import CutAtRandom, Delay, Swallow
from tests.faults.sizes import SEED
from tests.sampling import sampled

ANSWERED_WITHIN_S = 20.0
POLLED_WITHIN_S = 5.0
POLL_EVERY_S = 0.2


@pytest.mark.briefly_on("postgresql")
def test_a_slow_object_store_costs_time_and_nothing_else(rig, proxies, sizes):
    with proxies.s3.behaving(Delay(0.05)):
        with rig.submitting(sizes.cases) as load:
            pass
        outcome = rig.settle(load, "S3 slow: 50 ms for each 16 KiB")
    assert load.refused == {}
    assert (outcome.failed, outcome.orphaned) == (0, 0)


@pytest.mark.briefly_on("embedded")
def test_connections_to_the_object_store_that_break_cost_no_case_and_no_attempt(rig, proxies, sizes):
    cut = CutAtRandom(once_in_bytes=500_000, dice=random.Random(SEED))
    with proxies.s3.behaving(cut):
        with rig.submitting(sizes.cases) as load:
            pass
        # Each time that its photograph breaks off, a case waits for a minute.
        outcome = rig.settle(load, "connections to S3 cut at random", times=cut.cuts, timeout_s=240)
    assert cut.cuts > 0
    assert outcome.failed == 0
    assert {trace.attempts for trace in rig.observe(load)} == {1}


@pytest.mark.briefly_on("embedded")
def test_while_the_object_store_is_silent_submissions_are_refused_in_time_and_polls_are_answered(rig, proxies, sizes):
    known = rig.stack.submit(PHOTOGRAPHS[0].read_bytes()).json()["id"]
    polling = sampled(partial(timed_poll, rig, known), POLL_EVERY_S)
    with rig.submitting(sizes.cases) as load, proxies.s3.behaving(Swallow()), polling as polled_s:
        begun_s = time.monotonic()
        answer = rig.stack.submit(PHOTOGRAPHS[0].read_bytes())
        assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
        assert answer.headers["Retry-After"]
        assert time.monotonic() - begun_s <= ANSWERED_WITHIN_S
        time.sleep(sizes.away_s)
    healed_at = datetime.now(UTC)
    outcome = rig.settle(load, "S3 takes everything and never answers", recovery=until_first_end(healed_at))
    assert max(polled_s) <= POLLED_WITHIN_S, polled_s
    assert outcome.failed == 0
    assert {trace.attempts for trace in rig.observe(load)} == {1}


@pytest.mark.only_on("postgresql")
def test_a_postgresql_that_cannot_be_reached_holds_nobody_up_once_it_can(rig, proxies, sizes):
    with rig.submitting(sizes.cases) as load:
        rig.await_ends(load, 1)
        with proxies.sql.unreachable():
            begun_s = time.monotonic()
            answer = rig.stack.submit(PHOTOGRAPHS[0].read_bytes())
            assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
            assert time.monotonic() - begun_s <= ANSWERED_WITHIN_S
            time.sleep(sizes.away_s)
        healed_at = datetime.now(UTC)
    outcome = rig.settle(load, "PostgreSQL cut off by the network", recovery=until_first_end(healed_at))
    assert outcome.failed == 0


def timed_poll(rig, case_id: str) -> float:
    """Poll a case, and return how long the answer took, in seconds."""
    begun_s = time.monotonic()
    rig.stack.http.get(f"/v1/cases/{case_id}").raise_for_status()
    return time.monotonic() - begun_s
