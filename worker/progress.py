"""Tells from outside whether a worker process gets work done; whether it merely lives, anything can see."""

import time
from datetime import timedelta
from pathlib import Path

from celery.signals import task_postrun, worker_ready

from shared.database import Database, read_clock
from shared.dispatch import Doorbell
from shared.errors import Unavailable
from shared.store import queue


def note_progress(file: Path) -> None:
    """Touch the file from now on whenever this process has begun to take tasks, or is through with one.

    A task lasts one slice of time and one batch at the most, and the watchdog ends a batch that takes longer.
    """
    file.unlink(missing_ok=True)

    def touch(**_) -> None:
        file.touch(mode=0o600)

    worker_ready.connect(touch, weak=False)
    task_postrun.connect(touch, weak=False)


def has_stalled(file: Path, limit_s: float, database: Database, doorbell: Doorbell) -> bool:
    """Tell whether a worker got nothing done for so long, although some case has waited for so long.

    False while the worker starts, and while the database or the broker is away: a fresh process could do no better.
    """
    if not file.exists() or time.time() - file.stat().st_mtime < limit_s:
        return False
    try:
        with database.reading() as session:
            waiting = queue.count_waiting(session, read_clock(session) - timedelta(seconds=limit_s), at_most=1)
    except Unavailable:
        return False
    return waiting > 0 and doorbell.check()
