"""The real system but for the analysis: PostgreSQL, Valkey, S3, API and beat, and workers whose network sleeps."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from deploy.embedded import tether
from deploy.embedded.program import Program, find_free_port
from deploy.embedded.seaweed import PORT_OFFSETS, seaweed_program, seaweed_url
from deploy.embedded.valkey import valkey_program, valkey_url
from deploy.stack import is_alive, local_url
from shared.database import open_database
from shared.migrations import upgrade
from shared.settings import Settings
from tests.factories import variables_of
from tests.faults.keeper import Keeper
from tests.rehearsal import sleeping_worker
from tests.servers.postgres import SURVIVES_A_KILL, postgres_program, postgres_url

BATCH_SIZE = 2
WORKER_THREADS = 2


@dataclass(frozen=True)
class System:
    """What runs, and how to reach it. `processes`: by name, the one that the supervisor started."""

    settings: Settings
    environment: Mapping[str, str]
    base_url: str
    processes: Mapping[str, int]


@contextmanager
def running_system(folder: Path) -> Iterator[System]:
    """Run everything but workers in a folder that PostgreSQL's user can reach."""
    sql_port, broker_port, api_port = (find_free_port() for _ in range(3))
    s3_port, password, secret = find_free_port(PORT_OFFSETS), secrets.token_urlsafe(16), secrets.token_urlsafe(16)
    settings = Settings(
        _env_file=None,
        database_url=postgres_url(sql_port),
        broker_url=valkey_url(broker_port, password),
        s3_endpoint_url=seaweed_url(s3_port),
        s3_access_key="rehearsal",
        s3_secret_key=secret,
        s3_bucket="rehearsal",
        batch_size=BATCH_SIZE,
        worker_threads=WORKER_THREADS,
        clinic_waiting_limit=100_000,
    )
    environment = os.environ | variables_of(settings)
    servers = [
        postgres_program(folder, sql_port, SURVIVES_A_KILL),
        valkey_program(folder, broker_port, password),
        seaweed_program(folder, s3_port, "rehearsal", secret, "rehearsal"),
    ]
    base_url = local_url(api_port)
    command = (sys.executable, "-m", "deploy.cli")
    ours = [
        Program("api", (*command, "api", "--port", str(api_port)), environment, is_ready=lambda: is_alive(base_url)),
        Program("beat", (*command, "beat"), environment),
    ]
    with Keeper(folder, servers) as below:
        database = open_database(settings.database_url)
        upgrade(database)
        database.engine.dispose()
        with Keeper(folder, ours) as above:
            names = {
                program.name: keeper for keeper, programs in ((below, servers), (above, ours)) for program in programs
            }
            yield System(settings, environment, base_url, {name: keeper.pid(name) for name, keeper in names.items()})


class Fleet:
    """The worker processes. Those that must go are told to, as Kubernetes does, and finish what they hold."""

    def __init__(self, system: System, photograph_s: float, folder: Path):
        self._environment, self._photograph_s, self._folder = system.environment, photograph_s, folder
        self._working: list[subprocess.Popen] = []
        self._leaving: dict[subprocess.Popen, float] = {}
        self.started, self.drains_s = 0, []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.resize(0)
        while self._leaving:
            self.resize(0)
            time.sleep(0.1)

    def __len__(self) -> int:
        return len(self._working)

    def count_ready(self) -> int:
        """Return how many take tasks: each touches its progress file from then on."""
        return sum(Path(process.args[-1]).exists() for process in self._working)

    def resize(self, wanted: int) -> None:
        """Start workers, or tell the youngest ones to stop; never waits."""
        while len(self._working) < wanted:
            self._working.append(self._start())
        while len(self._working) > wanted:
            process = self._working.pop()
            process.send_signal(signal.SIGTERM)
            self._leaving[process] = time.monotonic()
        for process, told_s in list(self._leaving.items()):
            if process.poll() is not None:
                # One that was told before it had come as far as its work just ends.
                assert process.returncode in (0, -signal.SIGTERM), f"{process.args} ended with {process.returncode}"
                self.drains_s.append(time.monotonic() - told_s)
                del self._leaving[process]

    def _start(self) -> subprocess.Popen:
        self.started += 1
        # A rehearsal that is killed takes its workers along.
        tethered = (sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), "-")
        launcher = (sys.executable, "-m", sleeping_worker.__name__, str(self._photograph_s))
        progress = self._folder / f"worker-{self.started}.progress"
        command = (*tethered, *launcher, "worker", "--progress-file", str(progress))
        with (self._folder / "logs" / f"worker-{self.started}.log").open("ab") as log:
            return subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
