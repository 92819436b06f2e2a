"""What the API's processes count together: it outlives them, and never stands in the way of a case."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from api.shared_counters import _FILE_BYTES
from deploy.embedded.program import find_free_port
from shared.domain import Role
from tests.api.calls import JPEG
from tests.factories import add_clinic, add_key, variables_of
from tests.faults import small_disk
from tests.waiting import wait_until

TOKEN = "a-token-for-prometheus"
PROCESSES = 2
FULL = PROCESSES * 2 * _FILE_BYTES
"""What all of it is taken of at the start."""

LEAVE_FILES = """
import os, signal, sys
from api import shared_counters

shared_counters._IN_MEMORY = sys.argv[1]
shared_counters.share_counters(1)
print("ready", flush=True)
sys.stdin.read()
os.kill(os.getpid(), signal.SIGKILL)
"""


class RunningApi:
    """`dermqueue api` where the machine's memory for files is a disk of this size."""

    def __init__(self, variables: dict[str, str], key: str, size_bytes: int, log: Path):
        self._port, self._log, self._key = find_free_port(), log, key
        disk = (sys.executable, small_disk.__file__, "/dev/shm", str(size_bytes))
        command = (*disk, sys.executable, "-m", "deploy.cli", "api", "--port", str(self._port))
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, env=os.environ | variables, stderr=output)
        wait_until(self._answers, timeout_s=60)

    def submit(self) -> int:
        headers = {"Authorization": f"Bearer {self._key}"}
        return httpx.post(self._url("/v1/cases"), files={"image": JPEG}, headers=headers, trust_env=False).status_code

    def count_accepted(self) -> float:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        text = httpx.get(self._url("/metrics"), headers=headers, trust_env=False).text
        return sum(map(float, re.findall(r"cases_accepted_total{.*} (.*)", text)))

    def kill_a_process(self) -> None:
        """`kill -9` the oldest, and wait for the one that takes its place."""
        oldest = self._pids()[0]
        os.kill(oldest, signal.SIGKILL)
        wait_until(lambda: oldest not in self._pids() and len(self._pids()) == PROCESSES, timeout_s=30)

    def list_files(self) -> list[str]:
        return sorted(file.name for file in Path(f"/proc/{self._process.pid}/root/dev/shm").glob("*/*"))

    def read_log(self) -> str:
        return self._log.read_text()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(60)

    def _pids(self) -> list[int]:
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def _answers(self) -> bool:
        assert self._process.poll() is None, self.read_log()
        try:
            return httpx.get(self._url("/healthz"), trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self._port}{path}"


@pytest.fixture
def run_api(settings, database, tmp_path) -> Iterator[Callable[[int], RunningApi]]:
    key = add_key(database, Role.CLINIC, add_clinic(database))
    own = {"DERMQUEUE_API_PROCESSES": str(PROCESSES), "DERMQUEUE_METRICS_TOKEN": TOKEN}
    running = []

    def run(size_bytes: int) -> RunningApi:
        running.append(RunningApi(variables_of(settings) | own, key, size_bytes, tmp_path / "api.log"))
        return running[-1]

    yield run
    assert [api.stop() for api in running] == [0] * len(running)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_what_a_killed_process_has_counted_stays_in_the_sum_and_another_goes_on_in_its_files(run_api):
    api = run_api(FULL)
    files, accepted = api.list_files(), 0
    for _ in range(3):
        assert [api.submit() for _ in range(4)] == [202] * 4
        accepted += 4
        assert api.count_accepted() == accepted
        api.kill_a_process()
        assert api.count_accepted() == accepted
    assert len(files) == 2 * PROCESSES
    assert api.list_files() == files


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_where_there_is_no_room_to_count_together_cases_are_taken_all_the_same(run_api):
    api = run_api(_FILE_BYTES // 2)
    assert api.submit() == 202
    assert "counters_not_shared error=No space left on device" in api.read_log()


def test_what_a_killed_api_left_is_removed_by_the_next_and_what_is_in_use_is_not(tmp_path):
    def start() -> tuple[subprocess.Popen, str]:
        command = (sys.executable, "-c", LEAVE_FILES, str(tmp_path))
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        (newest,) = {folder.name for folder in tmp_path.iterdir()} - seen
        seen.add(newest)
        return process, newest

    seen: set[str] = set()
    (killed, _), (living, in_use) = start(), start()
    assert len(list(tmp_path.iterdir())) == 2
    killed.communicate()
    last, own = start()
    assert {folder.name for folder in tmp_path.iterdir()} == {in_use, own}
    for process in (living, last):
        process.communicate()
