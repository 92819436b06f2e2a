"""A supervisor in a thread of its own, for what runs beside `dermqueue up`: servers given by URL, further processes."""

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from deploy.embedded.program import Program
from deploy.embedded.supervisor import Supervisor


class Keeper:
    """Starts programs and restarts what dies, until the context is left.

    The kernel ties a child's life to the thread that started it, so one thread does everything.
    """

    def __init__(self, folder: Path, programs: Sequence[Program]):
        self._programs = programs
        self._events: list[tuple[str, str, str]] = []
        self._supervisor = Supervisor(folder, lambda *event: self._events.append(event))
        self._pulse = _Pulse()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=self._keep, name="keeper")

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.result()
        return self

    def __exit__(self, *_) -> None:
        self._pulse.set()
        self._thread.join()

    @contextmanager
    def holding(self) -> Iterator[None]:
        """Restart nothing inside the block."""
        self._pulse.free.clear()
        try:
            yield
        finally:
            self._pulse.free.set()

    def keeps(self, name: str) -> bool:
        """Tell whether the program of this name runs here."""
        return any(program.name == name for program in self._programs)

    def pid(self, name: str) -> int:
        """Return the id of the process that was started last under this name."""
        return [int(detail.split()[1]) for who, event, detail in self._events if (who, event) == (name, "started")][-1]

    def count(self, name: str, event: str) -> int:
        """Count how often the supervisor reported this event of this program."""
        return sum((who, what) == (name, event) for who, what, _ in self._events)

    def _keep(self) -> None:
        with self._supervisor:
            try:
                self._supervisor.start(self._programs, self._pulse)
            except BaseException as error:  # noqa: BLE001 (whatever it is belongs to the thread that waits)
                self._started.set_exception(error)
                return
            self._started.set_result(None)
            self._supervisor.run_until(self._pulse)


class _Pulse(threading.Event):
    """What the supervisor waits for between two looks at its children; it sees none of them die while not `free`."""

    def __init__(self):
        super().__init__()
        self.free = threading.Event()
        self.free.set()

    def wait(self, timeout: float | None = None) -> bool:
        self.free.wait()
        return super().wait(timeout)
