"""The object store killed and away, and single objects that vanish or change behind the system's back."""

import time
from datetime import UTC, datetime

import pytest

from tests.faults.audit import until_first_end
from tests.faults.load import PHOTOGRAPHS


@pytest.mark.briefly_on("embedded")
def test_while_the_object_store_is_away_nothing_is_accepted_and_nothing_is_half_stored(rig, sizes):
    with rig.submitting(sizes.cases) as load:
        rig.await_work()
        with rig.away("seaweed"):
            answer = rig.stack.submit(PHOTOGRAPHS[0].read_bytes())
            assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")
            assert int(answer.headers["Retry-After"]) > 0
            time.sleep(sizes.away_s)
        healed_at = datetime.now(UTC)
    settle(rig, sizes, load, "S3 killed and away while cases are submitted", healed_at)


@pytest.mark.briefly_on("postgresql")
def test_cases_that_are_analysed_while_the_object_store_is_away_lose_no_attempt(rig, sizes):
    with rig.frozen("worker"), rig.submitting(sizes.cases) as load:
        pass
    with rig.away("seaweed"):
        time.sleep(sizes.away_s)
        assert not [trace for trace in rig.observe(load) if trace.state.is_final]
    settle(rig, sizes, load, "S3 killed and away while cases are analysed", datetime.now(UTC))


def settle(rig, sizes, load, fault: str, healed_at: datetime) -> None:
    outcome = rig.settle(load, fault, recovery=until_first_end(healed_at))
    assert outcome.failed == 0  # as a row without its photograph would have
    assert outcome.recovery_s <= sizes.recovery_s
    assert {trace.attempts for trace in rig.observe(load)} == {1}


@pytest.mark.briefly_on("embedded")
def test_a_missing_and_a_damaged_object_fail_their_own_cases_alone(rig, sizes):
    with rig.frozen("worker"):
        with rig.submitting(sizes.cases) as load:
            pass
        missing, damaged, *_ = traces = rig.observe(load)
        photograph = rig.store.get(missing.photograph_key)
        rig.store.delete(missing.photograph_key)
        rig.store.put(damaged.photograph_key, b"not what was sent", "image/jpeg")
    rig.await_ends(load, len(traces))
    rig.store.put(missing.photograph_key, photograph, "image/jpeg")  # now nothing is lost
    outcome = rig.settle(load, "one object missing, one damaged")
    errors = {trace.id: trace.error_code for trace in rig.observe(load) if trace.state == "failed"}
    assert errors == {missing.id: "object_missing", damaged.id: "object_damaged"}
    assert outcome.failed == 2
