"""The broker, killed, wiped and away. Its messages only wake workers: losing all of them must cost no case."""

from datetime import UTC, datetime

import pytest

from tests.faults.audit import until_first_end
from tests.faults.sizes import RECOVERY_S


@pytest.mark.briefly_on("embedded")
def test_a_broker_that_is_killed_in_the_middle_costs_no_case(rig, sizes):
    with rig.submitting(sizes.cases) as load:
        rig.await_work()
        with rig.away("valkey"):
            pass
        healed_at = datetime.now(UTC)
    settle(rig, load, "broker killed", healed_at)


@pytest.mark.briefly_on("postgresql")
def test_a_broker_that_forgets_everything_in_the_middle_costs_no_case(rig, sizes):
    with rig.frozen("worker"), rig.submitting(sizes.cases) as load:
        pass
    rig.await_work()
    rig.broker.flushall()
    settle(rig, load, "broker wiped", datetime.now(UTC))


@pytest.mark.briefly_on("postgresql")
def test_cases_that_are_submitted_while_the_broker_is_away_are_analysed_when_it_is_back(rig, sizes):
    with rig.away("valkey"), rig.submitting(sizes.cases) as load:
        pass
    settle(rig, load, "broker away while cases are submitted", datetime.now(UTC))


def settle(rig, load, fault: str, healed_at: datetime) -> None:
    outcome = rig.settle(load, fault, recovery=until_first_end(healed_at))
    assert outcome.failed == 0
    assert outcome.recovery_s <= RECOVERY_S
