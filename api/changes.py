"""Changes that go on record."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from api.auth import caller
from api.services import services
from shared.database import read_clock
from shared.store import trail

log = logging.getLogger(__name__)


@contextmanager
def changing(action: str, case_id: UUID | None = None) -> Iterator[tuple[Session, datetime]]:
    """A transaction, and the database's time in it; its last line in the trail says that the caller did `action`.

    An exception takes back the change, and nothing is on record.
    """
    with services().database.writing() as session:
        now = read_clock(session)
        yield session, now
        trail.audit(session, caller(), action, [case_id], now)
    log.info("%s key_id=%s", action.replace(".", "_"), caller().key_id)
