"""Changes that are audited."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from sqlalchemy.orm import Session

from api.auth import caller
from api.services import services
from shared.store import trail

log = logging.getLogger(__name__)


@contextmanager
def changing(action: str, case_id: UUID | None = None) -> Iterator[tuple[Session, datetime]]:
    """Do as `trail.audited` for the request's caller, and log it."""
    with trail.audited(services().database, caller(), action, case_id) as change:
        yield change
    log.info("change_made action=%s key_id=%s", action, caller().key_id)
