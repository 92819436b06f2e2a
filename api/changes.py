"""Changes that are audited."""

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
    """Open a transaction; yield it with the database's time, and at its end audit that the caller did `action`.

    An exception rolls back both the change and its audit entry.
    """
    with services().database.writing() as session:
        now = read_clock(session)
        yield session, now
        trail.audit(session, caller(), action, [case_id], now)
    log.info("%s key_id=%s", action.replace(".", "_"), caller().key_id)
