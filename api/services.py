"""What the routes work with, made once per process."""

from dataclasses import dataclass
from threading import BoundedSemaphore

from flask import current_app

from api.limits import Backlog, KeyUses, Throttle
from shared.database import Database
from shared.dispatch import Doorbell
from shared.settings import Settings
from shared.storage import ObjectStore

EXTENSION = "dermqueue"


@dataclass(frozen=True)
class Services:
    """The adapters of one API process. `waiting_seats` bounds how many of its threads `Prefer: wait` may hold."""

    settings: Settings
    database: Database
    store: ObjectStore
    doorbell: Doorbell
    waiting_seats: BoundedSemaphore
    backlog: Backlog
    throttle: Throttle
    key_uses: KeyUses


def services() -> Services:
    """Return the running app's services."""
    return current_app.extensions[EXTENSION]
