"""Erases the objects of deleted cases, some with each sweep of each worker."""

import logging
import random
import time
from datetime import timedelta
from itertools import takewhile
from threading import Event

from shared.database import Database, read_clock
from shared.errors import ObjectInaccessible, Unavailable
from shared.storage import ObjectStore
from shared.store import objects

_AT_ONCE = 20
"""Cases per sweep, at four calls of S3 each: one that outlasts its interval lets the next take another thread."""

_REFUSED_AGAIN_S, _AGAIN_S = 600.0, 10.0
"""How long what could not be erased is skipped, so that it does not hold up the rest."""

log = logging.getLogger(__name__)


class Erasure:
    """One worker process's part in it."""

    def __init__(self, database: Database, store: ObjectStore, lease_s: float, stopping: Event):
        self._database, self._store, self._lease_s, self._stopping = database, store, lease_s, stopping
        self._up_to: objects.DeletedCase | None = None
        self._anew_at_s = 0.0

    def erase_some(self) -> None:
        """Erase some deleted cases' objects, starting after those tried before: a failure must not block the others.

        In random order, so that the sweeps of several workers share the cases instead of all erasing the same one.
        """
        now_s = time.monotonic()
        if now_s >= self._anew_at_s:
            self._up_to, self._anew_at_s = None, now_s + _REFUSED_AGAIN_S
        with self._database.reading() as session:
            # Two leases later, no worker can still be storing an overlay: its watchdog counts from after the claim.
            deleted_before = read_clock(session) - timedelta(seconds=2 * self._lease_s)
            to_erase = objects.list_to_erase(session, deleted_before, _AT_ONCE, self._up_to)
        if not to_erase:
            return
        self._up_to = to_erase[-1]
        shuffled = random.sample(to_erase, len(to_erase))
        for deleted in takewhile(lambda _: not self._stopping.is_set(), shuffled):
            with self._database.reading() as session:
                if objects.is_erased(session, deleted.case_id):
                    continue
            try:
                is_erased = self._erase(deleted)
            except Unavailable:
                self._anew_at_s = min(self._anew_at_s, time.monotonic() + _AGAIN_S)
                return
            if is_erased:
                with self._database.writing() as session:
                    objects.mark_erased(session, deleted.case_id, read_clock(session))

    def _erase(self, deleted: objects.DeletedCase) -> bool:
        """Erase a case's objects, or return False if they alone are inaccessible.

        Raises:
            Unavailable: the whole store is unavailable.
        """
        try:
            self._store.erase_case(deleted.clinic_id, deleted.case_id)
        except ObjectInaccessible as error:
            self._store.check_after(error)
            log.warning("erasure_refused case_id=%s reason=%s", deleted.case_id, error.__cause__)
            return False
        return True
