"""Serves the API under gunicorn."""

import ctypes
import logging
from contextlib import suppress

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from api.app import create_app
from api.shared_counters import take_place
from api.slow_clients import PatientWorker
from shared.database import open_database
from shared.migrations import check_upgraded
from shared.settings import Settings
from shared.tracing import start_tracing

_GRACEFUL_TIMEOUT_S = 35
"""Longer than the longest `Prefer: wait`, so that a restart does not interrupt an answer."""

_HEARTBEAT_DIR = "/dev/shm"  # nosec B108  # in memory, so that a slow disk does not look like a hang; mkstemp is used

_M_MMAP_THRESHOLD, _BLOCK_BYTES = -3, 2**20


class _Logger(Logger):
    """Sends gunicorn's own log records where all others go."""

    def setup(self, cfg) -> None:
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True
        self.error_log.addFilter(_quote_nothing)


def _quote_nothing(record: logging.LogRecord) -> bool:
    """Cut off what gunicorn quotes of a request that it could not handle: it may contain a key or identify a case."""
    message = str(record.msg)
    if message.startswith(("Invalid request", "Error handling request")):
        record.msg, record.args = message.partition(": ")[0].partition(" %s")[0], ()
    return True


class Server(BaseApplication):
    """Gunicorn with threads; each process makes its own app, so no connection is shared across a fork."""

    def __init__(self, settings: Settings, host: str, port: int):
        self._settings, self._address = settings, f"{host}:{port}"
        super().__init__()

    def load_config(self) -> None:
        options = {
            "bind": self._address,
            "worker_class": PatientWorker,
            "logger_class": _Logger,
            "workers": self._settings.api_processes,
            "threads": self._settings.api_threads,
            "pre_fork": take_place,
            "graceful_timeout": _GRACEFUL_TIMEOUT_S,
            "timeout": 120,
            "keepalive": 65,
            "worker_tmp_dir": _HEARTBEAT_DIR,
            "proc_name": "dermqueue-api",
            "control_socket_disable": True,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self):
        start_tracing("dermqueue-api")
        return create_app(self._settings)


def run_api(settings: Settings, host: str, port: int) -> None:
    """Serve until told to stop.

    Raises:
        ConfigurationInvalid: the database needs `dermqueue db upgrade`.
    """
    _give_memory_back()
    database = open_database(settings.database_url)
    check_upgraded(database)
    database.engine.dispose()
    Server(settings, host, port).run()


def _give_memory_back() -> None:
    """Make glibc return a photograph's memory once it is freed, instead of keeping it per thread (mallopt(3)).

    With 16 threads and photographs of 15 MB, a process took 340 MB instead of 790 MB.
    """
    with suppress(AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _BLOCK_BYTES)
