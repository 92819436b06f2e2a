"""Limits on a clinic's waiting cases, the backlog and attempts with wrong keys; notes of when keys were used."""

import time
from threading import Lock
from uuid import UUID

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from sqlalchemy import Connection
from sqlalchemy.orm import Session

from shared.database import Database, read_clock
from shared.errors import RequestInvalid, TooMany, Unavailable
from shared.settings import Settings
from shared.store import access, cases, queue

_BACKLOG_COUNTED_EVERY_S = 1.0
_USE_NOTED_EVERY_S = 60.0


class Backlog:
    """Decides whether more cases may be queued, before a photograph is stored."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._counted, self._counted_at = 0, float("-inf")
        self._lock = Lock()

    def check_room(self, session: Session | Connection, clinic_id: UUID, wanted: int = 1, reserved: int = 0) -> None:
        """Raise unless this clinic may queue `wanted` more cases besides those that it has `reserved`.

        Concurrent requests do not see each other, so a limit may be exceeded by a few cases.

        Raises:
            RequestInvalid: `submission_too_large`: so many could never wait at once.
            TooMany: `quota_exceeded`: too many of the clinic's cases are waiting.
            Unavailable: `backlog_full`: too many cases are waiting altogether.
        """
        limit = access.read_waiting_limit(session, clinic_id) or self._settings.clinic_waiting_limit
        if wanted > (most := min(limit, self._settings.backlog_limit)):
            raise RequestInvalid(
                "submission_too_large",
                f"At most {most} of your cases may wait at once. Split the submission and send the parts one by one.",
            )
        if cases.count_waiting_of(session, clinic_id, at_most=limit) + reserved + wanted > limit:
            raise TooMany(
                "quota_exceeded",
                f"At most {limit} of your cases may wait at once. Send more when some have finished.",
            )
        if self._count(session) + reserved + wanted > self._settings.backlog_limit:
            raise Unavailable(
                "backlog_full", "Too many cases are waiting at the moment. Nothing was accepted; try again later."
            )

    def _count(self, session: Session | Connection) -> int:
        with self._lock:
            if time.monotonic() - self._counted_at > _BACKLOG_COUNTED_EVERY_S:
                self._counted = queue.count_queued(session, self._settings.backlog_limit)
                self._counted_at = time.monotonic()
            return self._counted


class Throttle:
    """Limits attempts with wrong keys, per address and process.

    A secret has 256 random bits and cannot be guessed; this keeps the log readable.
    """

    def __init__(self, wrong_keys_per_minute: int):
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._limit = RateLimitItemPerMinute(wrong_keys_per_minute)

    def check(self, address: str) -> None:
        """Raise `TooMany` (`too_many_wrong_keys`) if too many wrong keys came from this address in the last minute."""
        if not self._limiter.test(self._limit, address):
            raise TooMany(
                "too_many_wrong_keys", "Too many requests with a wrong key came from your address. Check the key."
            )

    def note_failure(self, address: str) -> None:
        """Count a wrong key."""
        self._limiter.hit(self._limit, address)


class KeyUses:
    """Records when a key was last used, at most once a minute per process."""

    def __init__(self, database: Database):
        self._database = database
        self._noted: dict[UUID, float] = {}

    def note(self, key_id: UUID) -> None:
        """Record this use, unless this process recorded one of the same key within the last minute."""
        now_s = time.monotonic()
        if now_s - self._noted.get(key_id, float("-inf")) < _USE_NOTED_EVERY_S:
            return
        with self._database.writing() as session:
            access.note_use(session, key_id, read_clock(session))
        self._noted[key_id] = now_s
