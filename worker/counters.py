"""This worker's Prometheus counters and timings. None of them identifies a clinic or a case."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter, Histogram

from shared.domain import MAX_ATTEMPTS, Lease, State, problem_after_lost_lease
from shared.store.queue import Sweep
from shared.tracing import add_spans

STAGES = ("claim", "fetch", "decode", "forward", "render", "store", "record")
UNAVAILABLE, ANALYSIS_FAILED, LEASE_EXPIRED = REASONS = ("unavailable", "analysis_failed", "lease_expired")
FAILURES = ("analysis_failed", "analysis_interrupted", "model_output_invalid")
FAILURES += ("object_damaged", "object_missing", "object_unreadable")

_STAGE_SECONDS = Histogram(
    "dermqueue_stage_seconds",
    "Duration of a stage: claim, forward and record for a batch; fetch, decode, render and store for one case.",
    ["stage"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
BATCH = Histogram("dermqueue_batch_cases", "Cases in a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256))
ENDED = Counter("dermqueue_cases_ended", "Cases that ended; the code says why one has no result.", ["state", "code"])
RETRIES = Counter("dermqueue_retries", "Cases returned to the queue to be retried.", ["reason"])
LATE = Counter("dermqueue_late_results", "Results refused because this worker no longer held the case.")

# Prometheus sees no increase in a series that first appears with its first event.
for _name in STAGES:
    _STAGE_SECONDS.labels(_name)
for _reason in REASONS:
    RETRIES.labels(_reason)
ENDED.labels(State.SUCCEEDED, "")
for _code in FAILURES:
    ENDED.labels(State.FAILED, _code)


@contextmanager
def stage(name: str, leases: Iterable[Lease] = ()) -> Iterator[list[Lease]]:
    """Measure how long one of `STAGES` takes, even if it fails, and trace it for these cases.

    Yields the list of cases, to be filled by a stage that finds them.
    """
    traced, began_ns = list(leases), time.time_ns()
    try:
        with _STAGE_SECONDS.labels(name).time():
            yield traced
    finally:
        add_spans(name, [lease.traceparent for lease in traced], began_ns)


def count_sweep(found: Sweep) -> None:
    """Count the cases whose lease expired."""
    RETRIES.labels(LEASE_EXPIRED).inc(found.returned)
    if found.failed:
        ENDED.labels(State.FAILED, problem_after_lost_lease(MAX_ATTEMPTS).code).inc(len(found.failed))
