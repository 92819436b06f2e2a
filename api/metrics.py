"""The API's `/metrics`: the counters of all its processes, and the queue as read from SQL."""

import os
import time
from collections.abc import Iterator, Sequence
from hmac import compare_digest
from threading import Lock

from flask import Flask, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from sqlalchemy.orm import Session

from api.auth import allow, authorize, read_bearer
from api.services import services
from shared.database import read_clock
from shared.domain import Role, State
from shared.errors import Unavailable
from shared.store import access, overview, workers

_QUEUE_READ_EVERY_S = 5.0


def register_metrics(app: Flask) -> None:
    """Add the route, for admins and for holders of the configured token. Clinics appear by id only."""
    queue = CollectorRegistry()
    queue.register(QueueCollector())

    @app.get("/metrics")
    @allow(Role.ADMIN)
    def read_metrics() -> Response:
        if not _has_token():
            authorize()
        return Response(generate_latest(_counters()) + generate_latest(queue), content_type=CONTENT_TYPE_LATEST)


def _has_token() -> bool:
    token = services().settings.metrics_token
    return token is not None and compare_digest(read_bearer().encode(), token.get_secret_value().encode())


def _counters() -> CollectorRegistry:
    """Return the counters of all processes that share a folder for them (`dermqueue api`), or this process's own."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return REGISTRY
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return registry


class QueueCollector(Collector):
    """Reads the queue from SQL, at most every few seconds, however often it is scraped.

    An unreachable database is itself a metric, and hides no other.
    """

    def __init__(self):
        self._lock = Lock()
        self._read_at, self._figures = float("-inf"), []

    def describe(self) -> Sequence[Metric]:
        """Return nothing, so that registering this reads nothing."""
        return ()

    def collect(self) -> Sequence[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at > _QUEUE_READ_EVERY_S:
                self._figures = list(self._read())
                self._read_at = time.monotonic()
            return self._figures

    def _read(self) -> Iterator[Metric]:
        is_up = GaugeMetricFamily("dermqueue_database_up", "Whether the database answered.")
        try:
            with services().database.reading() as session:
                yield from _read_queue(session)
            is_up.add_metric([], 1)
        except Unavailable:
            is_up.add_metric([], 0)
        yield is_up


def _read_queue(session: Session) -> Iterator[Metric]:
    """Yield the figures read from SQL; an idle clinic counts 0, so that its series does not come and go."""
    cases = GaugeMetricFamily("dermqueue_cases", "Cases waiting or running.", labels=["state", "clinic"])
    oldest = GaugeMetricFamily(
        "dermqueue_oldest_case_seconds",
        "The longest wait for a worker; time since the oldest running case was submitted.",
        labels=["state", "clinic"],
    )
    now = read_clock(session)
    loads = {load.clinic_id: load for load in overview.list_loads(session, now)}
    for clinic in access.list_clinics(session):
        load = loads.get(clinic.id) or overview.ClinicLoad(clinic.id, clinic.name)
        for state, number, since in (
            (State.QUEUED, load.waiting, load.longest_wait_since),
            (State.RUNNING, load.running, load.oldest_running),
        ):
            cases.add_metric([state, str(clinic.id)], number)
            oldest.add_metric([state, str(clinic.id)], (now - since).total_seconds() if since else 0)
    chores = GaugeMetricFamily(
        "dermqueue_chore_due_seconds", "How long a webhook message, or an erasure, has been due.", labels=["chore"]
    )
    for chore, since in overview.find_chores(session).items():
        chores.add_metric([chore], max(0, (now - since).total_seconds()) if since else 0)
    yield chores
    failed = overview.count_failed(session)
    yield GaugeMetricFamily("dermqueue_failed_cases", "Failed cases that nobody has reviewed.", failed)
    alive = [known.worker for known in workers.list_workers(session, now) if known.alive]
    yield from (cases, oldest, GaugeMetricFamily("dermqueue_workers", "Workers that are alive.", value=len(alive)))
    rate = sum(worker.images_per_minute or 0 for worker in alive)
    yield GaugeMetricFamily("dermqueue_images_per_minute", "What they analyse together while they have work.", rate)
