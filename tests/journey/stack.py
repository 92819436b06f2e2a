"""The whole stack in its own processes, as an operator starts it: nothing of it is imported."""

import json
import os
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil

from deploy.embedded import tether
from deploy.embedded.program import find_free_port
from tests.waiting import wait_until

LEASE_S = 6
FINAL = ("succeeded", "rejected", "failed", "cancelled")
DERMQUEUE = (sys.executable, str(Path(sysconfig.get_path("scripts")) / "dermqueue"))


class RunningStack:
    """`dermqueue up` in a folder of its own, and an ordinary HTTP client of the clinic."""

    def __init__(self, data_dir: Path, variables: dict[str, str]):
        self.data_dir, self.variables = data_dir, variables
        self.environment = {**os.environ, "DERMQUEUE_LEASE_S": str(LEASE_S), **variables}
        data_dir.mkdir(parents=True, exist_ok=True)
        self.output = data_dir / "up.log"
        self._connection_file = data_dir / "connection.json"
        # A run of the tests that is killed takes its stacks along.
        tethered = (sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), "-")
        command = (*tethered, *DERMQUEUE, "up", "--data-dir", str(data_dir), "--port", str(find_free_port()))
        with self.output.open("ab") as output:
            self._process = subprocess.Popen(command, env=self.environment, stdout=output, stderr=output)
        wait_until(self._is_ready, timeout_s=240)
        self.connection = json.loads(self._connection_file.read_text())
        self.http = self.client("clinic_key")

    def client(self, key_name: str) -> httpx.Client:
        return httpx.Client(
            base_url=self.connection["base_url"],
            headers={"Authorization": f"Bearer {self.connection[key_name]}"},
            timeout=30,
            trust_env=False,
        )

    def stop(self) -> int:
        """Press Ctrl-C and return the exit code."""
        self.http.close()
        self._process.send_signal(signal.SIGINT)
        return self._process.wait(120)

    def kill(self, program: str) -> None:
        """`kill -9` what the supervisor started last under this name."""
        os.kill(self.pid(program), signal.SIGKILL)

    def pid(self, program: str) -> int:
        """Return the process under this name; raises ProcessLookupError between a death and the restart."""
        pattern = {"valkey": "valkey-server", "seaweed": "weed mini"}.get(program, f"dermqueue {program}")
        for child in psutil.Process(self._process.pid).children():
            with suppress(psutil.NoSuchProcess):
                if pattern in " ".join(child.cmdline()):
                    return child.pid
        raise ProcessLookupError(program)

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Halt the supervisor inside the block; the programs keep running."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def count(self, name: str, event: str) -> int:
        """Count how often the supervisor reported this event of this program."""
        told = (line.split(maxsplit=2)[:2] for line in self.output.read_text().splitlines())
        return sum(words == [name, event] for words in told)

    def submit(self, photograph: bytes, **fields: str) -> httpx.Response:
        return self.http.post("/v1/cases", files={"image": ("lesion.jpg", photograph)}, data=fields)

    def finish(self, case_ids: list[str], timeout_s: float = 120) -> list[dict]:
        """Wait until every case is final and return them."""
        wait_until(lambda: all(self.read(case_id)["state"] in FINAL for case_id in case_ids), timeout_s)
        return [self.read(case_id) for case_id in case_ids]

    def read(self, case_id: str) -> dict:
        response = self.http.get(f"/v1/cases/{case_id}", headers={"Prefer": "wait=5"})
        assert response.status_code == 200, response.text
        return response.json()

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self.output.read_text()
        return self._connection_file.exists()


@contextmanager
def running_stack(data_dir: Path, variables: dict[str, str]) -> Iterator[RunningStack]:
    """Run a stack inside the block; it must stop cleanly."""
    stack = RunningStack(data_dir, variables)
    yield stack
    assert stack.stop() == 0, stack.output.read_text()
