"""The worker process: wires everything up and hands it to Celery."""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from uuid import uuid4

from celery import Celery
from celery.signals import worker_shutting_down
from sqlalchemy.orm import Session

from shared.database import Database, open_database, read_clock
from shared.dispatch import ANALYZE_QUEUE, SWEEP_QUEUE, Doorbell, make_celery
from shared.migrations import check_upgraded
from shared.settings import Settings
from shared.storage import open_object_store
from shared.store import models
from shared.store.workers import Worker
from shared.tracing import start_tracing
from worker.analysis import Analyst
from worker.bundle_source import local_bundle
from worker.heartbeat import Heartbeat, process_name
from worker.housekeeping import Housekeeping
from worker.metrics import serve_metrics
from worker.model import Model, choose_device, describe_device, load_model
from worker.tasks import register_tasks
from worker.triage import Triage
from worker.webhooks import Courier

_IO_THREADS_PER_CASE = 0.5
_CHORE_THREADS = 1
"""For sweeps and purges, so that they leave those of the analysis alone: `Seats` limits its batches, not the pool."""

_CONNECTIONS_KEPT = 4
"""To PostgreSQL: those of the analysis, the sweep and the heartbeat. Webhook messages open more while they are sent."""

log = logging.getLogger(__name__)


def run_worker(settings: Settings) -> int:
    """Work until told to stop; return the exit code.

    Raises:
        ModelUnusable: the bundle is damaged; nothing was claimed.
        Unavailable: the bundle lies in S3, which cannot be reached or refuses.
        ConfigurationInvalid: the database needs `dermqueue db upgrade`, or see `start_tracing` and `choose_device`.
    """
    start_tracing("dermqueue-worker")
    database = open_database(settings.database_url, kept=_CONNECTIONS_KEPT)
    check_upgraded(database)
    with local_bundle(settings.model, settings) as folder:
        device = choose_device(settings.device, settings.runtime)
        model = load_model(folder, device, settings.runtime)
    with database.writing() as session:
        announce_model(model, session, read_clock(session))
    celery = make_celery(settings)
    triage = make_triage(settings, database, celery, model)
    housekeeping = Housekeeping(database, open_object_store(settings), triage.stopping)
    register_tasks(celery, triage, housekeeping, Courier(database, settings.local_webhooks, triage.stopping))
    worker = celery.Worker(
        pool="threads",
        concurrency=settings.worker_threads + _CHORE_THREADS,
        queues=[ANALYZE_QUEUE, SWEEP_QUEUE],
        without_mingle=True,
        without_gossip=True,
        quiet=True,
    )

    def stop(**_) -> None:
        triage.stopping.set()

    worker_shutting_down.connect(stop)
    device_name = describe_device(device)
    log.info("worker_ready model=%s version=%s device=%s", model.manifest.name, model.manifest.version, device_name)
    if settings.metrics_port:
        serve_metrics(settings.metrics_host, settings.metrics_port, model, device, triage.meter)
    myself = Worker(uuid4(), process_name(), device_name, settings.batch_size, model.digest, None)
    with Heartbeat(database, myself, triage.meter, partial(announce_model, model)).beating():
        worker.start()
    return worker.exitcode or 0


def make_triage(settings: Settings, database: Database, celery: Celery, model: Model) -> Triage:
    """Wire up the analysis and recovery of cases in this process."""
    io_threads = max(4, int(settings.batch_size * settings.worker_threads * _IO_THREADS_PER_CASE))
    store = open_object_store(settings, max_connections=io_threads + settings.worker_threads + _CHORE_THREADS)
    point = model.manifest.operating_point(settings.operating_point)
    analyst = Analyst(model, store, point, ThreadPoolExecutor(io_threads, thread_name_prefix="photograph"))
    return Triage(database, store, Doorbell(celery), analyst, settings)


def announce_model(model: Model, session: Session, now: datetime) -> None:
    """Store the bundle's manifest and card in SQL, where results refer to them and the API reads them."""
    models.activate_model(session, model.digest, model.manifest.model_dump(mode="json"), model.card, now)
