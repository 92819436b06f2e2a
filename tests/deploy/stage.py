"""A supervised program under test, and the patience to wait for what it does."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Self

from deploy.embedded.program import Program
from deploy.embedded.supervisor import Supervisor

_ENDED = {"Z", None}
"""States of a process that is no more: dead and not reaped yet, or gone."""


def wait_until(condition: Callable[[], bool], timeout_s: float = 10.0, every_s: float = 0.02) -> None:
    """Return as soon as the condition holds, looked at so often; fail when it does not in time."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"not so after {timeout_s} s"
        time.sleep(every_s)


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


class Stage:
    """Runs programs under a supervisor and remembers what the supervisor said about them."""

    def __init__(self, data_dir: Path):
        self.events: list[tuple[str, str, str]] = []
        self.stop_event = Event()
        self._stop_at: Callable[[], bool] = lambda: False
        self.supervisor = Supervisor(data_dir, self._hear)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.supervisor.stop()

    def start(self, *programs: Program) -> None:
        """Start the programs and wait for each to be ready."""
        self.supervisor.start(programs, self.stop_event)

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Let the supervisor do its work until the condition holds after one of its events."""
        self._stop_at = condition
        self.supervisor.run_until(self.stop_event)

    def kill_and_await_revival(self, name: str) -> None:
        """Kill the program's process (-9) and run the supervisor until the program is ready again."""
        times_ready = self.count(name, "ready")
        os.kill(self.pid(name), signal.SIGKILL)
        self.run_until(lambda: self.count(name, "ready") > times_ready)

    def pid(self, name: str) -> int:
        """Return the process that the supervisor started last under this name."""
        return [int(detail.split()[1]) for who, event, detail in self.events if (who, event) == (name, "started")][-1]

    def count(self, name: str, event: str) -> int:
        """Count how often the supervisor told this event of this program."""
        return self.told().count((name, event))

    def told(self) -> list[tuple[str, str]]:
        """Return the events so far, without their details."""
        return [(name, event) for name, event, _ in self.events]

    def _hear(self, name: str, event: str, detail: str) -> None:
        self.events.append((name, event, detail))
        if self._stop_at():
            self.stop_event.set()
