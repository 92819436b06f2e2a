"""What the routes work with, made once per process."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import BoundedSemaphore

from flask import current_app

from api.limits import Backlog, KeyUses, Throttle
from api.reads import KnownReads
from shared.database import Database
from shared.dispatch import BusyDoorbell
from shared.errors import Unavailable
from shared.settings import Settings
from shared.storage import ObjectStore

EXTENSION = "dermqueue"
_SEAT_TIMEOUT_S = 10


@dataclass(frozen=True)
class Services:
    """The adapters of one API process, and how much it does at a time.

    `waiting_seats` bounds how many of its threads `Prefer: wait` may hold, `photograph_seats` how many photographs are
    in memory to be taken in, `picture_seats` how many to be looked at, `submission_seats` how many submissions lie on
    its disk.
    """

    settings: Settings
    database: Database
    store: ObjectStore
    doorbell: BusyDoorbell
    waiting_seats: BoundedSemaphore
    photograph_seats: BoundedSemaphore
    picture_seats: BoundedSemaphore
    submission_seats: BoundedSemaphore
    backlog: Backlog
    throttle: Throttle
    key_uses: KeyUses
    reads: KnownReads


@contextmanager
def seated(seats: BoundedSemaphore, busy: Unavailable, *, waits: bool = True) -> Iterator[None]:
    """Hold one of a few seats; raise `busy` if none is free: for ten seconds, or now if that is not waited for."""
    if not seats.acquire(timeout=_SEAT_TIMEOUT_S if waits else 0):
        raise busy
    try:
        yield
    finally:
        seats.release()


def services() -> Services:
    """Return the running app's services."""
    return current_app.extensions[EXTENSION]
