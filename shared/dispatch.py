"""The queue: Celery on Redis. A message only wakes a worker; the case's row is the source of truth."""

import logging
import ssl
import time
from threading import Lock, Thread
from urllib.parse import urlsplit

from celery import Celery
from celery.schedules import crontab
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from shared.settings import Settings

ANALYZE = "dermqueue.analyze"
SWEEP = "dermqueue.sweep"
PURGE = "dermqueue.purge"
DELIVER = "dermqueue.deliver"
ANALYZE_QUEUE = "analyze"
SWEEP_QUEUE = "sweep"
"""A queue of its own: workers alternate between the two, so a flood of wake-ups cannot delay sweeps and purges."""

_PURGE_AT = crontab(hour=3, minute=17)
"""Once a day (UTC). An interval would start over with every restart of beat."""

_SWEEP_EXPIRES_S = 300
_DELIVER_EVERY_S = 5.0
_PURGE_EXPIRES_S = 12 * 3600
_PAUSE_AFTER_FAILURE_S = 5.0
_RING_AT_MOST_EVERY_S = 0.05
_RINGS_KEPT = 500
"""Messages that may wait: a worker takes one per time slice, so that more would pile up while there is a backlog."""

log = logging.getLogger(__name__)


def make_celery(settings: Settings) -> Celery:
    """Configure Celery; nothing connects until a message is sent or a worker starts."""
    celery = Celery("dermqueue", broker=settings.broker_url, set_as_current=False)
    celery.conf.update(
        task_ignore_result=True,
        task_create_missing_queues=True,
        task_default_queue=ANALYZE_QUEUE,
        task_routes={SWEEP: {"queue": SWEEP_QUEUE}, PURGE: {"queue": SWEEP_QUEUE}, DELIVER: {"queue": SWEEP_QUEUE}},
        worker_prefetch_multiplier=1,
        worker_hijack_root_logger=False,
        broker_connection_retry_on_startup=True,
        broker_connection_timeout=2,
        broker_use_ssl=_checked_tls(settings.broker_url),
        broker_transport_options={
            "socket_connect_timeout": 2,
            "socket_timeout": 5,
            "socket_keepalive": True,
            "retry_on_timeout": False,
            "max_retries": 0,
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
        },
        beat_schedule={
            # Messages expire: Redis keeps them, but the first worker after a time without one drops the old ones, and
            # does not do the same many times over. Well over a minute, by which clocks may differ.
            SWEEP: {"task": SWEEP, "schedule": settings.sweep_interval_s, "options": {"expires": _SWEEP_EXPIRES_S}},
            DELIVER: {"task": DELIVER, "schedule": _DELIVER_EVERY_S, "options": {"expires": _SWEEP_EXPIRES_S}},
            PURGE: {"task": PURGE, "schedule": _PURGE_AT, "options": {"expires": _PURGE_EXPIRES_S}},
        },
    )
    return celery


def _checked_tls(broker_url: str) -> dict | None:
    """Verify the broker's certificate unless its URL says otherwise: by default, kombu verifies nothing."""
    url = urlsplit(broker_url)
    return {"ssl_cert_reqs": ssl.CERT_REQUIRED} if url.scheme == "rediss" and "ssl_cert_reqs" not in url.query else None


class Doorbell:
    """Wakes workers when cases wait. A lost ring does no harm: the sweep rings again for whatever waits."""

    def __init__(self, celery: Celery):
        self._celery = celery
        self._silent_until = 0.0

    def ring(self, times: int = 1) -> None:
        """Ring once for each batch that should start, unless enough rings wait for a worker already.

        A broker that is unreachable or full, or refuses us, is logged, never raised: the cases are already committed.
        """
        if not times or time.monotonic() < self._silent_until:
            return
        try:
            with self._celery.producer_or_acquire() as producer:
                waiting = producer.channel.queue_declare(ANALYZE_QUEUE).message_count
                for _ in range(min(times, _RINGS_KEPT - waiting)):
                    self._celery.send_task(ANALYZE, queue=ANALYZE_QUEUE, retry=False, producer=producer)
        except (OperationalError, RedisError) as error:  # kombu does not translate what counting raises
            # Otherwise every submission would wait for the same timeout; the sweep rings for these cases anyway.
            self._silent_until = time.monotonic() + _PAUSE_AFTER_FAILURE_S
            log.warning("doorbell_unreachable reason=%s", type(error).__name__)

    def check(self) -> bool:
        """Return whether the broker answers."""
        try:
            with self._celery.connection_for_write() as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=2)
        except OperationalError:
            return False
        return True


class BackgroundDoorbell:
    """Rings in the background: no caller waits for the broker, and calls in quick succession share one ring.

    A call made during a ring causes one more, so no committed case is missed. The sweep makes up for rings still due
    when the process ends.
    """

    def __init__(self, doorbell: Doorbell):
        self._doorbell = doorbell
        self._lock = Lock()
        self._is_asked = self._is_ringing = False

    def ring(self) -> None:
        """Request a ring: sent now, or shortly after the last one."""
        with self._lock:
            self._is_asked = True
            if self._is_ringing:
                return
            self._is_ringing = True
        try:
            Thread(target=self._ring_while_asked, name="doorbell", daemon=True).start()
        except RuntimeError as error:  # the system gives us no thread: the cases are committed, and the sweep will ring
            with self._lock:
                self._is_ringing = False
            log.warning("doorbell_not_rung reason=%s", error)

    def _ring_while_asked(self) -> None:
        try:
            while self._take_asked():
                self._doorbell.ring()
                time.sleep(_RING_AT_MOST_EVERY_S)
        except BaseException:  # however this thread ends, the next call must be able to start another
            with self._lock:
                self._is_ringing = False
            raise

    def _take_asked(self) -> bool:
        with self._lock:
            self._is_ringing = is_asked = self._is_asked
            self._is_asked = False
            return is_asked

    def check(self) -> bool:
        """Return whether the broker answers."""
        return self._doorbell.check()
