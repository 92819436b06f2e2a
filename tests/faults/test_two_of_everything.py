"""Two APIs, three workers and two beats on one database, on machines whose clocks differ by minutes."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.faults import shifted_clock
from tests.faults.load import PHOTOGRAPHS, Clinic

SKEW_S = 60


@pytest.mark.briefly_on("postgresql")
def test_two_of_everything_with_differing_clocks_share_the_work_without_harm(rig, sizes):
    api = rig.further("second api", *clock(rig, SKEW_S))
    others = (
        rig.further("second worker", *clock(rig, SKEW_S)),
        rig.further("third worker", *clock(rig, -SKEW_S)),
        rig.further("second beat", *clock(rig, -SKEW_S)),
    )
    urls = [rig.stack.connection["base_url"], f"http://127.0.0.1:{api.argv[-1]}"]
    with rig.beside(api, *others):
        with rig.submitting(sizes.cases, urls=urls) as load:
            assert len(submit_to_each(urls, load.clinics[0])) == 1
        outcome = rig.settle(load, "two of everything, clocks differ")
    traces = rig.observe(load)
    assert {(trace.state, trace.attempts) for trace in traces} == {("succeeded", 1)}
    assert all(trace.submitted_at < trace.finished_at for trace in traces)
    assert outcome.longest_delay_s < SKEW_S


def clock(rig, shift_s: int) -> tuple[str, ...]:
    """Return what shifts a process's clock. SQLite's processes share a machine, and a machine has one clock."""
    return () if rig.flavour == "embedded" else (shifted_clock.__file__, str(shift_s))


def submit_to_each(urls: list[str], clinic: Clinic) -> set[str]:
    """Send one submission to all APIs at the same time, and return the cases that they report."""
    headers = {"Authorization": f"Bearer {clinic.connection.key}", "Idempotency-Key": "the same"}
    files = {"image": PHOTOGRAPHS[0].read_bytes()}

    def submit(url: str) -> str:
        response = httpx.post(f"{url}/v1/cases", headers=headers, files=files, timeout=30, trust_env=False)
        return response.raise_for_status().json()["id"]

    with ThreadPoolExecutor(len(urls)) as pool:
        return set(pool.map(submit, urls))
