"""A server that does not answer is waited for once, and one that answers others is not given up."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace

import pytest

from shared import circuit_breaker
from shared.circuit_breaker import CircuitBreaker, CircuitOpen

PAUSE_S, LONGEST_TRIAL_S = 2.0, 20.0


@pytest.fixture
def clock(monkeypatch) -> SimpleNamespace:
    clock = SimpleNamespace(now_s=100.0)
    monkeypatch.setattr(circuit_breaker, "time", SimpleNamespace(monotonic=lambda: clock.now_s))
    return clock


@pytest.fixture
def breaker() -> CircuitBreaker:
    return CircuitBreaker((TimeoutError,), PAUSE_S, LONGEST_TRIAL_S)


@contextmanager
def timing_out(breaker: CircuitBreaker) -> Iterator[None]:
    """A call that times out at the end of the block."""
    with suppress(TimeoutError), breaker.guarding():
        yield
        raise TimeoutError


def is_open(breaker: CircuitBreaker) -> bool:
    try:
        with breaker.guarding():
            return False
    except CircuitOpen:
        return True


def test_after_a_timeout_calls_fail_for_a_moment_then_one_tries_and_the_others_wait_for_it(breaker, clock):
    with timing_out(breaker):
        clock.now_s += 6
    assert is_open(breaker)
    clock.now_s += PAUSE_S
    with breaker.guarding():
        assert is_open(breaker)
        clock.now_s += LONGEST_TRIAL_S - 1
        assert is_open(breaker)
    assert not is_open(breaker)


def test_a_trial_that_times_out_opens_it_again(breaker, clock):
    for _ in range(2):
        with timing_out(breaker):
            clock.now_s += 6
        assert is_open(breaker)
        clock.now_s += PAUSE_S


def test_another_error_is_no_timeout(breaker):
    with pytest.raises(OSError, match="refused"), breaker.guarding():
        raise OSError("refused")
    assert not is_open(breaker)


def test_a_timeout_during_which_another_call_succeeds_opens_nothing(breaker, clock):
    with timing_out(breaker):
        clock.now_s += 1
        with breaker.guarding():
            pass
        clock.now_s += 5
    assert not is_open(breaker)


def test_a_call_that_times_out_late_ends_no_trial(breaker, clock):
    with timing_out(breaker):
        clock.now_s += 1
        with breaker.guarding():
            pass
        clock.now_s += 1
        with timing_out(breaker):
            clock.now_s += 6
        clock.now_s += PAUSE_S
        trial = breaker.guarding()
        trial.__enter__()
    assert is_open(breaker)
    trial.__exit__(None, None, None)
    assert not is_open(breaker)


def test_a_call_that_ends_while_another_asks_whether_it_may_be_made_is_no_error(breaker, clock, monkeypatch):
    with timing_out(breaker):
        clock.now_s += 6

    def end_meanwhile() -> float:
        breaker._open_until_s = None
        return clock.now_s

    with monkeypatch.context() as patched:
        patched.setattr(circuit_breaker.time, "monotonic", end_meanwhile)
        assert is_open(breaker)
    assert not is_open(breaker)
