"""Photographs in the object store, and whether one is inaccessible or the whole store is."""

import logging
import time
from contextlib import suppress
from datetime import timedelta
from threading import Lock
from uuid import UUID, uuid4

from shared.domain import Lease
from shared.errors import ObjectInaccessible, ObjectMissing, Unavailable
from shared.object_keys import UPLOADS
from shared.storage import ObjectStore

_INACCESSIBLE_AGE, _INACCESSIBLE_FOR_S, _INACCESSIBLE_KNOWN = timedelta(days=1), 600.0, 10_000
"""An inaccessible photograph is retried until its case is this old and it has been inaccessible for this long.

Both, because after days of downtime a store that has just started may refuse what it returns ten minutes later.
At most this many photographs are remembered.
"""

log = logging.getLogger(__name__)


class PhotographStore:
    """Fetches photographs, and remembers which ones were inaccessible. Thread-safe."""

    def __init__(self, store: ObjectStore):
        self._store, self._inaccessible = store, _Inaccessible()

    def fetch(self, lease: Lease) -> bytes:
        """Return a photograph as it was stored.

        Raises:
            ObjectMissing: `object_missing`; `object_unreadable`: it has been inaccessible for too long, while others
                are not.
            Unavailable: it is not known whether it can be read; `ObjectInaccessible`: the store was asked.
        """
        try:
            data = self._store.get(lease.photograph_key)
        except ObjectInaccessible as error:
            log.warning("photograph_inaccessible key=%s reason=%s", lease.photograph_key, error.__cause__)
            self._inaccessible.note(lease.case_id)
            is_old = lease.expires_at - lease.submitted_at >= _INACCESSIBLE_AGE
            has_lasted = self._inaccessible.lasted_s(lease.case_id) >= _INACCESSIBLE_FOR_S
            if not (is_old and has_lasted and self._gives_others(error)):
                raise
            self._inaccessible.forget(lease.case_id)
            detail = "The image store does not return this photograph. A person must look at this case."
            raise ObjectMissing("object_unreadable", detail) from error
        except (ObjectMissing, Unavailable):
            self._inaccessible.forget(lease.case_id)
            raise
        self._inaccessible.forget(lease.case_id)
        return data

    def _gives_others(self, refused: ObjectInaccessible) -> bool:
        """Tell whether the store returns an object just written: if our key may read nothing, no case is to blame."""
        probe = f"{UPLOADS}probe-{uuid4()}"  # under this prefix, a purge removes one that is left behind
        try:
            self._store.check_after(refused)
            self._store.put(probe, b"", "text/plain")
            self._store.get(probe)
        except (ObjectMissing, Unavailable):
            return False
        finally:
            with suppress(Unavailable):  # the key may not be allowed to delete
                self._store.delete(probe)
        return True

    def lasted_s(self, case_id: UUID) -> float:
        """Return for how long a case's photograph has been inaccessible."""
        return self._inaccessible.lasted_s(case_id)

    def forget(self, case_id: UUID) -> None:
        """Forget that a photograph timed out: the whole store was away."""
        self._inaccessible.forget(case_id)

    def answers(self) -> bool:
        """Tell whether the store answers, after a timeout."""
        with suppress(Unavailable):
            self._store.check_after_timeout()
            return True
        return False


class _Inaccessible:
    """How long each photograph has been inaccessible, as seen by this process."""

    def __init__(self):
        # First and last failure of each; the most recent is at the end.
        self._seen: dict[UUID, tuple[float, float]] = {}
        self._lock = Lock()

    def note(self, case_id: UUID) -> None:
        """Note one more failure."""
        now_s = time.monotonic()
        with self._lock:
            began_s, last_s = self._seen.pop(case_id, (now_s, now_s))
            if now_s - last_s > _INACCESSIBLE_FOR_S:  # another process may have been given it meanwhile
                began_s = now_s
            self._seen[case_id] = began_s, now_s
            if len(self._seen) > _INACCESSIBLE_KNOWN:
                del self._seen[next(iter(self._seen))]

    def lasted_s(self, case_id: UUID) -> float:
        """Return the time from the first to the last of the failures with nothing else between them."""
        began_s, last_s = self._seen.get(case_id, (0.0, 0.0))
        return last_s - began_s

    def forget(self, case_id: UUID) -> None:
        """Reset: the photograph was returned, its case has ended, or the store was unavailable."""
        with self._lock:
            self._seen.pop(case_id, None)
