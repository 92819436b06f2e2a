"""Waiting for other processes and threads, with a limit."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import text

from shared.database import Database

_ENDED = {"Z", None}
"""States of a process that has ended: dead but not reaped yet, or gone."""


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0, every_s: float = 0.02) -> None:
    """Poll the condition and return as soon as it holds; fail if it does not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so after {timeout_s} s"
        time.sleep(every_s)


def await_rings() -> None:
    """Return once this process's background doorbells have sent all that they were asked for."""
    wait_until(lambda: all(thread.name != "doorbell" for thread in threading.enumerate()))


def is_waiting_for_a_lock(database: Database) -> bool:
    """Tell whether anybody on this PostgreSQL server waits for another's transaction."""
    with database.reading() as session:
        return session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")) > 0


def is_running(pid: int) -> bool:
    """Tell whether the process lives. A zombie, which nobody has reaped yet, does not."""
    return _state(Path(f"/proc/{pid}")) not in _ENDED


def halt(pid: int) -> None:
    """Stop a process by SIGSTOP, and return once each of its threads has come to a halt.

    A thread in the middle of a system call ends that first, and the call may be the one that takes a lock.
    """
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: all(_state(thread) in {"T", *_ENDED} for thread in Path(f"/proc/{pid}/task").glob("*")))


def _state(process: Path) -> str | None:
    """Return the letter by which Linux tells what a process or thread does (proc(5), `stat`); None if it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None
