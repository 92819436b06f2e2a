"""Many clinics at once, and one that floods: nothing is lost, nobody is held up, the API's memory stays flat."""

from collections.abc import Sequence
from functools import partial

import psutil

from tests.faults.audit import Trace
from tests.faults.sizes import BATCH_SIZE
from tests.sampling import sampled

FLAT = 1.1
"""The most memory that the API may use in the second half of a rush, as a multiple of the first half's."""
SAMPLED_EVERY_S = 0.1


def test_many_clinics_at_once_lose_nothing_and_the_apis_memory_stays_flat(rig, sizes):
    load = rig.submitting(sizes.rush_cases, clinics=sizes.rush_clinics, connections=sizes.rush_connections)
    with sampled(partial(memory_of_api, rig.stack.pid("api")), SAMPLED_EVERY_S) as samples_mib, load:
        pass
    half = len(samples_mib) // 2
    fault = f"{sizes.rush_clinics} clinics, {sizes.rush_connections} connections at once"
    outcome = rig.settle(load, fault, timeout_s=60 + sizes.rush_cases)
    assert load.refused == {}
    assert outcome.failed == 0
    assert max(samples_mib[half:]) <= FLAT * max(samples_mib[:half]), samples_mib


def test_a_clinic_that_floods_holds_another_up_by_three_batches_at_most(rig, sizes):
    flood = rig.submitting(4 * sizes.cases, clinics=1)
    other = rig.submitting(1, clinics=1)
    with flood:
        pass
    with other:
        pass
    rig.settle(flood, "a clinic floods", timeout_s=300)
    rig.settle(other, "a single case behind the flood")
    (single,) = rig.observe(other)
    # Those that the worker's two threads held, and one that the other thread begins and ends beside its own.
    assert count_served_between(rig.observe(flood), single) <= 3 * BATCH_SIZE


def count_served_between(others: Sequence[Trace], single: Trace) -> int:
    """Count the cases that were there first and ended between this one's submission and its own batch's end."""
    return sum(single.submitted_at < trace.finished_at < single.finished_at for trace in others)


def memory_of_api(pid: int) -> float:
    """Return the resident memory of all the API's processes, in MiB."""
    return sum(child.memory_info().rss for child in psutil.Process(pid).children()) / 2**20
