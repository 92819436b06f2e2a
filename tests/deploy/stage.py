"""A supervised program under test."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Self

from deploy.embedded.program import Program
from deploy.embedded.supervisor import Supervisor


class Stage:
    """Runs programs under a supervisor and records the supervisor's events."""

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
        """Run the supervisor until the condition holds after one of its events."""
        self._stop_at = condition
        self.supervisor.run_until(self.stop_event)

    def kill_and_await_revival(self, name: str) -> None:
        """Kill the program's process (-9) and run the supervisor until the program is ready again."""
        times_ready = self.count(name, "ready")
        os.kill(self.pid(name), signal.SIGKILL)
        self.run_until(lambda: self.count(name, "ready") > times_ready)

    def pid(self, name: str) -> int:
        """Return the id of the process that the supervisor started last under this name."""
        return [int(detail.split()[1]) for who, event, detail in self.events if (who, event) == (name, "started")][-1]

    def count(self, name: str, event: str) -> int:
        """Count how often the supervisor reported this event of this program."""
        return self.told().count((name, event))

    def told(self) -> list[tuple[str, str]]:
        """Return the events so far, without their details."""
        return [(name, event) for name, event, _ in self.events]

    def _hear(self, name: str, event: str, detail: str) -> None:
        self.events.append((name, event, detail))
        if self._stop_at():
            self.stop_event.set()
