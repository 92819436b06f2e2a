"""How each peer is started and set.

Every one has a process per core, each with one of torch's threads, so that decoding and encoding keep all cores busy
too. Other settings have not been held against these yet.
"""

import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import Protocol

import httpx
from celery import Celery

from deploy.embedded.program import Program, find_free_port
from deploy.embedded.supervisor import Supervisor
from deploy.embedded.valkey import valkey_program, valkey_url
from deploy.site_links import REPOSITORY
from shared.bundle import find_bundle
from shared.errors import ConfigurationInvalid
from shared.settings import Settings
from tests.benchmarks.peers.client import Drain, drain_queue, drain_server

PROGRAMS = Path(__file__).parent / "programs"
START_TIMEOUT_S = 300
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Setting:
    """Worker processes, torch's threads in each, photographs in a batch, and the longest wait until one is full."""

    workers: int = CORES
    threads: int = 1
    batch: int = 16
    wait_s: float = 0.1


class Peer(Protocol):
    name: str

    def prepare(self, folder: Path) -> tuple[Sequence[Program], Drain]:
        """Return what to start, in this order, and what drains photographs once it runs."""


@dataclass(frozen=True)
class Server:
    """Answers over HTTP. `arguments` follow Python; `health` is the path that tells when all of it has started."""

    name: str
    arguments: tuple[str, ...]
    health: str
    setting: Setting = Setting()

    def prepare(self, folder: Path) -> tuple[Sequence[Program], Drain]:
        port = find_free_port()
        address = f"http://127.0.0.1:{port}"
        variables = {"PEER_PORT": str(port), "BENTOML_PORT": str(port), "BENTOML_HOST": "127.0.0.1"}
        ready = partial(is_healthy, f"{address}{self.health}")
        program = peer_program(self.name, self.arguments, folder, self.setting, variables, ready)
        return [program], partial(drain_server, f"{address}/explain")


@dataclass(frozen=True)
class Queue:
    """Takes tasks from a broker that keeps the results too."""

    name: str
    setting: Setting = Setting()

    def prepare(self, folder: Path) -> tuple[Sequence[Program], Drain]:
        port, password = find_free_port(), secrets.token_urlsafe()
        url = valkey_url(port, password)
        client = Celery(broker=url, backend=url)
        arguments = "-m", "celery", "--app", "celery_app", "worker", "--concurrency", str(self.setting.workers)

        def ready() -> bool:
            return bool(client.control.ping(timeout=1))

        worker = peer_program(self.name, arguments, folder, self.setting, {"PEER_REDIS": url}, ready)
        return [valkey_program(folder, port, password), worker], partial(drain_queue, client)


PEERS: tuple[Peer, ...] = (
    Queue("Celery"),
    # BentoML refuses what it expects to take longer than that, and here many requests wait.
    Server("BentoML", ("-m", "bentoml", "serve", "bento_service:Peer"), "/readyz", Setting(wait_s=600)),
    Server("LitServe", (str(PROGRAMS / "lit_server.py"),), "/health"),
    Server("Ray Serve", (str(PROGRAMS / "ray_app.py"),), "/explain"),
)


@contextmanager
def running(peer: Peer) -> Iterator[Drain]:
    """Run the peer while the context lasts; yields what drains photographs.

    Raises:
        ConfigurationInvalid: `peers_missing`; StartFailed: it does not run here.
    """
    # Ray keeps its sockets there, whose paths must be short.
    with tempfile.TemporaryDirectory(prefix="peer-") as name:
        folder = Path(name)
        programs, drain = peer.prepare(folder)
        with Supervisor(folder, on_event=lambda *event: None) as supervisor:
            supervisor.start(programs, Event())
            yield drain


def bundle_folder() -> Path:
    return find_bundle(Settings.model_fields["model"].default)


def find_python() -> Path:
    """Return the Python of the peers' environment.

    Raises:
        ConfigurationInvalid: `peers_missing`.
    """
    python = REPOSITORY / ".venv-peers" / "bin" / "python"
    if not python.exists():
        raise ConfigurationInvalid("peers_missing", "The peers are not installed: make .venv-peers/installed")
    return python


def peer_program(
    name: str,
    arguments: Sequence[str],
    folder: Path,
    setting: Setting,
    variables: Mapping[str, str],
    is_ready: Callable[[], bool],
) -> Program:
    """Return a Python program in the peers' environment that knows its setting by PEER_* variables."""
    python = find_python()
    return Program(
        name=name,
        argv=(str(python), *arguments),
        env={
            "PATH": f"{python.parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(PROGRAMS),
            "HOME": str(folder),
            "PYTHONUNBUFFERED": "1",
            "PEER_BUNDLE": str(bundle_folder()),
            "PEER_WORKERS": str(setting.workers),
            "PEER_THREADS": str(setting.threads),
            "PEER_BATCH": str(setting.batch),
            "PEER_WAIT_S": str(setting.wait_s),
            "BENTOML_DO_NOT_TRACK": "1",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_raylet_start_wait_time_s": str(START_TIMEOUT_S),
            **variables,
        },
        is_ready=is_ready,
        start_timeout_s=START_TIMEOUT_S,
        stop_timeout_s=60,
    )


def is_healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=1).is_success
    except httpx.HTTPError:
        return False
