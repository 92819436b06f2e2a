"""A circuit breaker: a server that does not answer must not hold all of its callers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock


class CircuitOpen(Exception):
    """The server is known not to answer, and was not asked."""


class CircuitBreaker:
    """Spares callers a timeout that another has just waited for. Thread-safe.

    After one of `timeouts`, unless another call has succeeded meanwhile, calls fail at once for `pause_s`. Then one
    tries, for at most `longest_trial_s`, and the others keep failing until it is done.
    """

    def __init__(self, timeouts: tuple[type[Exception], ...], pause_s: float, longest_trial_s: float):
        self._timeouts, self._pause_s, self._longest_trial_s = timeouts, pause_s, longest_trial_s
        self._lock = Lock()
        self._open_until_s: float | None = None
        self._succeeded_at_s = 0.0

    @contextmanager
    def guarding(self) -> Iterator[None]:
        """Guard one call.

        Raises:
            CircuitOpen: it was not made.
        """
        self._check()
        began_s, has_timed_out = time.monotonic(), False
        try:
            yield
            self._succeeded_at_s = time.monotonic()
        except self._timeouts:
            has_timed_out = True
            if self._succeeded_at_s < began_s:
                self._open_until_s = time.monotonic() + self._pause_s
            raise
        finally:
            if not has_timed_out:
                self._open_until_s = None

    def _check(self) -> None:
        with self._lock:
            open_until_s = self._open_until_s  # read once: calls that end set it without the lock
            if open_until_s is None:
                return
            now_s = time.monotonic()
            if now_s < open_until_s:
                raise CircuitOpen
            self._open_until_s = now_s + self._longest_trial_s
