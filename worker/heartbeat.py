"""Reports every few seconds that this worker process is alive and how fast it is."""

import logging
import os
import platform
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.errors import Unavailable
from shared.store import models, workers
from shared.store.workers import HEARTBEAT_S, Worker

_MEASURED_S = 600.0

log = logging.getLogger(__name__)


class Meter:
    """Measures how many images per minute this process analyses while it has work, over the last ten minutes."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._batches: deque[tuple[float, float, int]] = deque(maxlen=10_000)

    @contextmanager
    def measuring(self, images: int) -> Iterator[None]:
        """Time a batch of images that is analysed inside the block."""
        began = self._clock()
        yield
        self._batches.append((began, self._clock(), images))

    def images_per_minute(self) -> float | None:
        """Return the rate, or None if nothing was analysed lately. Overlapping batches' time counts once."""
        since = self._clock() - _MEASURED_S
        batches = sorted(batch for batch in list(self._batches) if batch[1] >= since)
        busy_s, free_from = 0.0, 0.0
        for began, ended, _ in batches:
            busy_s += max(0.0, ended - max(began, free_from))
            free_from = max(free_from, ended)
        return 60 * sum(images for *_, images in batches) / busy_s if busy_s else None


class Heartbeat:
    """Writes this process's row among the workers. An error is only logged, so that the work goes on.

    `announce` writes its bundle's row: a restored database may lack it, and accepts no results without it.
    """

    def __init__(self, database: Database, worker: Worker, meter: Meter, announce: Callable[[Session, datetime], None]):
        self._database, self._worker, self._meter, self._announce = database, worker, meter, announce
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Beat while the block runs; at its end, note that the worker has stopped."""
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join()
            self._write(lambda session, now: workers.note_worker_stopped(session, self._worker.id, now))

    def beat(self) -> None:
        """Write the row once, and the bundle's if it is missing."""
        worker = replace(self._worker, images_per_minute=self._meter.images_per_minute())

        def note(session: Session, now: datetime) -> None:
            if not models.is_known(session, worker.model_digest):
                self._announce(session, now)
            workers.note_worker(session, worker, now)

        self._write(note)

    def _run(self) -> None:
        self.beat()
        while not self._stopping.wait(HEARTBEAT_S):
            self.beat()

    def _write(self, change) -> None:
        try:
            with self._database.writing() as session:
                change(session, read_clock(session))
        except Unavailable as error:
            log.warning("heartbeat_missed code=%s", error.code)
        except Exception:  # whatever it is: a worker that falls silent seems dead
            log.exception("heartbeat_missed")


def process_name() -> str:
    """Return the host's name and this process's id."""
    return f"{platform.node()[:180] or 'unnamed'}:{os.getpid()}"
