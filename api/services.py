"""The adapters and limits that the routes share, made once per process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore

from flask import current_app

from api.limits import Backlog, KeyUses, Throttle
from api.read_audit import ReadAudit
from api.thumbnails import Thumbnails
from shared.database import Database, open_database
from shared.dispatch import BackgroundDoorbell, Doorbell, make_celery
from shared.errors import Unavailable
from shared.settings import Settings
from shared.storage import ObjectStore, open_object_store

EXTENSION = "dermqueue"
_SEAT_TIMEOUT_S = 10


@dataclass(frozen=True)
class Services:
    """The adapters of one API process, and its limits on concurrent work.

    `waiting_seats` limits the threads held by `Prefer: wait`, `photograph_seats` the photographs in memory at intake,
    `picture_seats` those in memory to be shown, `thumbnail_seats` the threads that draw for lists or wait to,
    `submission_seats` the submissions on disk.
    """

    settings: Settings
    database: Database
    store: ObjectStore
    doorbell: BackgroundDoorbell
    waiting_seats: BoundedSemaphore
    photograph_seats: BoundedSemaphore
    picture_seats: BoundedSemaphore
    thumbnail_seats: BoundedSemaphore
    submission_seats: BoundedSemaphore
    backlog: Backlog
    throttle: Throttle
    key_uses: KeyUses
    reads: ReadAudit
    thumbnails: Thumbnails


def open_services(settings: Settings) -> Services:
    """Return the services as the settings say; nothing connects until they are used."""
    database = open_database(settings.database_url)
    pictures = max(1, settings.photographs_in_memory // 2)
    return Services(
        settings=settings,
        database=database,
        store=open_object_store(settings, max_connections=max(1, settings.api_threads // 4)),
        doorbell=BackgroundDoorbell(Doorbell(make_celery(settings))),
        waiting_seats=BoundedSemaphore(settings.api_threads // 2),
        photograph_seats=BoundedSemaphore(settings.photographs_in_memory),
        picture_seats=BoundedSemaphore(pictures),
        thumbnail_seats=BoundedSemaphore(max(pictures, settings.api_threads * 3 // 4)),
        submission_seats=BoundedSemaphore(max(1, settings.api_threads // 4)),
        backlog=Backlog(settings),
        throttle=Throttle(settings.wrong_keys_per_minute),
        key_uses=KeyUses(database),
        reads=ReadAudit(database),
        thumbnails=Thumbnails(),
    )


@contextmanager
def seated(seats: BoundedSemaphore, busy: Unavailable, *, waits: bool = True) -> Iterator[None]:
    """Hold a seat during the block; raise `busy` if none becomes free within ten seconds, or at once unless `waits`."""
    if not seats.acquire(timeout=_SEAT_TIMEOUT_S if waits else 0):
        raise busy
    try:
        yield
    finally:
        seats.release()


def services() -> Services:
    """Return the running app's services."""
    return current_app.extensions[EXTENSION]
