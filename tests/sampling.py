"""Repeated measurements in the background."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Measured = TypeVar("Measured")


@contextmanager
def sampled(measure: Callable[[], Measured], every_s: float) -> Iterator[list[Measured]]:
    """Measure at once, at intervals while the block runs, and at its end.

    An error of `measure` is raised when the block is over.
    """
    samples, over = [measure()], threading.Event()

    def keep_measuring() -> None:
        while not over.wait(every_s):
            samples.append(measure())

    with ThreadPoolExecutor(1) as thread:
        measuring = thread.submit(keep_measuring)
        try:
            yield samples
        finally:
            over.set()
        measuring.result()
    samples.append(measure())
