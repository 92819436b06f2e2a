"""Tells from outside whether a worker process makes progress, not only whether it is alive."""

import time
from datetime import timedelta
from pathlib import Path

from celery.signals import task_postrun, worker_ready

from shared.database import Database, read_clock
from shared.dispatch import Doorbell
from shared.errors import Unavailable
from shared.store import queue


def note_progress(file: Path) -> None:
    """Touch the file, from now on, when this process is ready for tasks and whenever it has finished one.

    A task lasts at most one time slice plus one batch, and the watchdog ends a batch that takes longer than a lease.
    """
    file.unlink(missing_ok=True)

    def touch(**_) -> None:
        file.touch(mode=0o600)

    worker_ready.connect(touch, weak=False)
    task_postrun.connect(touch, weak=False)


def has_stalled(file: Path, limit_s: float, database: Database, doorbell: Doorbell) -> bool:
    """Tell whether a worker has finished nothing for `limit_s`, although some case has waited that long.

    False while the worker starts, and while the database or the broker is unavailable: a fresh process could do no
    better.
    """
    if not file.exists() or time.time() - file.stat().st_mtime < limit_s:
        return False
    try:
        with database.reading() as session:
            waiting = queue.count_waiting(session, read_clock(session) - timedelta(seconds=limit_s), at_most=1)
    except Unavailable:
        return False
    return waiting > 0 and doorbell.check()
