"""Keeps a list of programs alive in the foreground: start in order, restart what dies, stop the last start first.

There are no threads. One loop of the main thread does everything, because the kernel ties a child's life to the thread
that started it, and only the main thread lives as long as the process.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Self

from deploy.embedded import tether
from deploy.embedded.program import Program
from shared.errors import DermQueueError

POLL_S = 0.1
FIRST_BACKOFF_S = 0.5
LONGEST_BACKOFF_S = 10.0
# A program that ran for this long has recovered: its next death counts as a first one.
RECOVERED_AFTER_S = 30.0
TAIL_LINES = 15

# Called with the program's name, one of started, ready, broken, died, killed and stopped, and a detail for a human.
OnEvent = Callable[[str, str, str], None]


class StartFailed(DermQueueError):
    """A program did not become ready. The detail names its log file: it is for the operator's terminal alone."""


@dataclass
class _Child:
    program: Program
    process: subprocess.Popen
    started_at_s: float
    ready: bool = False
    log_read_bytes: int = 0
    backoff_s: float = FIRST_BACKOFF_S
    restart_at_s: float | None = None


class Supervisor:
    """Owns the processes that it starts. A context manager: leaving it stops them, also those of a failed start."""

    def __init__(self, data_dir: Path, on_event: OnEvent):
        """Take the folder whose `logs/` holds a file per program, and the callback for events."""
        self._log_dir = data_dir / "logs"
        self._on_event = on_event
        self._starts: list[list[_Child]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_) -> None:
        self.stop()

    def start(self, programs: Sequence[Program], stop_event: Event) -> None:
        """Start each program once the one before is ready, after those that were started earlier.

        Returns early when `stop_event` is set.

        Raises:
            StartFailed: a program ends or is not ready in time.
        """
        self._log_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._starts.append([])
        for program in programs:
            if stop_event.is_set():
                return
            child = _Child(program, self._launch(program), time.monotonic())
            self._starts[-1].append(child)
            self._await_first_readiness(child, stop_event)

    def run_until(self, stop_event: Event) -> None:
        """Restart what dies, with a growing pause, until `stop_event` is set. Stops nothing."""
        while not stop_event.wait(POLL_S):
            self.tend()

    def tend(self) -> None:
        """Do once what `run_until` does again and again; for callers that have something else to do meanwhile."""
        for child in self._children():
            self._tend(child)

    def stop(self) -> None:
        """Stop every program and wait for each to end: those of one start side by side, the last start first."""
        while self._starts:
            together, told_at_s = self._starts.pop(), time.monotonic()
            for child in together:
                child.process.send_signal(child.program.stop_signal)
            while together := [child for child in together if not self._has_ended(child, told_at_s)]:
                time.sleep(POLL_S)

    def _children(self) -> list[_Child]:
        return [child for start in self._starts for child in start]

    def _launch(self, program: Program) -> subprocess.Popen:
        user = "-" if program.user_id is None else str(program.user_id)
        tethered = [sys.executable, "-I", "-S", tether.__file__, str(os.getpid()), user, *program.argv]
        with open(self._log_path(program), "ab") as log:
            process = subprocess.Popen(  # nosec B603  # our own programs, and no shell
                tethered,
                env=dict(program.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._on_event(program.name, "started", f"process {process.pid}")
        return process

    def _await_first_readiness(self, child: _Child, stop_event: Event) -> None:
        deadline_s = child.started_at_s + child.program.start_timeout_s
        while not stop_event.is_set():
            for other in self._children()[:-1]:
                self._tend(other)
            status = child.process.poll()
            if status is not None:
                raise self._start_failed(child.program, f"ended with {_describe(status)} before it was ready")
            if self._became_ready(child):
                return
            if time.monotonic() > deadline_s:
                raise self._start_failed(child.program, f"was not ready after {child.program.start_timeout_s:.0f} s")
            stop_event.wait(POLL_S)

    def _tend(self, child: _Child) -> None:
        """Take the one step that this child needs now, if any."""
        if child.restart_at_s is not None:
            if time.monotonic() >= child.restart_at_s:
                child.restart_at_s = None
                child.process, child.started_at_s = self._launch(child.program), time.monotonic()
        elif child.process.poll() is not None:
            self._plan_restart(child)
        elif not child.ready:
            self._became_ready(child)
        elif child.program.is_broken is not None and child.program.is_broken(self._read_on(child)):
            self._on_event(child.program.name, "broken", "reports that it cannot go on; restarting it")
            _kill_group(child.process)

    def _became_ready(self, child: _Child) -> bool:
        if child.program.is_ready is None:
            child.ready = True
        elif child.program.is_ready():
            child.ready = True
            child.log_read_bytes = self._log_path(child.program).stat().st_size
            self._on_event(child.program.name, "ready", f"after {time.monotonic() - child.started_at_s:.1f} s")
        return child.ready

    def _plan_restart(self, child: _Child) -> None:
        _kill_group(child.process)
        now_s = time.monotonic()
        if now_s - child.started_at_s >= RECOVERED_AFTER_S:
            child.backoff_s = FIRST_BACKOFF_S
        reason = _describe(child.process.returncode)
        last_words = "".join(f". {line}" for line in self._log_tail(child.program, 1))
        self._on_event(child.program.name, "died", f"{reason}; restarting in {child.backoff_s:.1f} s{last_words}")
        child.ready = False
        child.restart_at_s = now_s + child.backoff_s
        child.backoff_s = min(2 * child.backoff_s, LONGEST_BACKOFF_S)

    def _has_ended(self, child: _Child, told_at_s: float) -> bool:
        """Tell whether a program has stopped, and kill it once its time is up. Afterwards nothing of it is left."""
        waited_s = time.monotonic() - told_at_s
        if child.process.poll() is None:
            if waited_s < child.program.stop_timeout_s:
                return False
            self._on_event(child.program.name, "killed", f"did not stop in {child.program.stop_timeout_s:.0f} s")
        _kill_group(child.process)
        child.process.wait()
        self._on_event(child.program.name, "stopped", f"after {waited_s:.1f} s")
        return True

    def _start_failed(self, program: Program, what: str) -> StartFailed:
        tail = "\n".join(self._log_tail(program, TAIL_LINES))
        log = self._log_path(program)
        return StartFailed("program_not_started", f"{program.name} {what}. The end of its log, {log}:\n{tail}")

    def _read_on(self, child: _Child) -> str:
        with self._log_path(child.program).open("rb") as log:
            if log.seek(0, os.SEEK_END) < child.log_read_bytes:  # it was truncated, as logrotate does
                child.log_read_bytes = 0
            log.seek(child.log_read_bytes)
            news = log.read()
        child.log_read_bytes += len(news)
        return news.decode(errors="replace")

    def _log_tail(self, program: Program, lines: int) -> list[str]:
        return self._log_path(program).read_text(errors="replace").splitlines()[-lines:]

    def _log_path(self, program: Program) -> Path:
        return self._log_dir / f"{program.name}.log"


def _kill_group(process: subprocess.Popen) -> None:
    """Kill what is left of the child and of the processes that it started, which may still hold its port."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _describe(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit code {status}"
