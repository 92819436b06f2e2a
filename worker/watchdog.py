"""Ends a process that is stuck, so that its supervisor can start a fresh one."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

EXIT_STUCK = 70

log = logging.getLogger(__name__)


class Watchdog:
    """Ends the process when a batch takes longer than `limit_s`: its leases have expired, its results are refused.

    A thread that hangs in native code cannot be stopped from within; the rest of the process would wait for it.
    """

    def __init__(self, limit_s: float):
        self._limit_s = limit_s
        self._started: dict[int, float] = {}
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch what this thread does inside the block."""
        self._started[threading.get_ident()] = time.monotonic()
        try:
            yield
        finally:
            del self._started[threading.get_ident()]

    def _watch(self) -> None:
        while True:
            time.sleep(self._limit_s / 20)
            for started in list(self._started.values()):
                if time.monotonic() - started > self._limit_s:
                    log.critical("worker_stuck limit_s=%s", self._limit_s)
                    os._exit(EXIT_STUCK)
