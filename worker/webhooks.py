"""Notifies clinics' webhooks of final states, following https://www.standardwebhooks.com."""

import base64
import hashlib
import hmac
import json
import logging
import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore

import httpcore

from shared.database import Database, read_clock
from shared.errors import RequestInvalid
from shared.store import webhooks
from shared.store.webhooks import Delivery
from shared.webhook_address import check_webhook_url, is_public

_AT_ONCE = 16
_TIMEOUT_S = 5.0
_GONE = 410

log = logging.getLogger(__name__)


class AddressRefused(httpcore.ConnectError):
    """A host name resolves to an address that is not on the internet."""


class _DeadlineStream(httpcore.NetworkStream):
    """A connection with one deadline for everything: with a timeout per read, a response could trickle in for ever."""

    def __init__(self, stream: httpcore.NetworkStream, until_s: float):
        self._stream, self._until_s = stream, until_s

    def read(self, max_bytes, timeout=None):
        return self._stream.read(max_bytes, _time_left(self._until_s))

    def write(self, buffer, timeout=None):
        self._stream.write(buffer, _time_left(self._until_s))

    def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        encrypted = self._stream.start_tls(ssl_context, server_hostname, _time_left(self._until_s))
        return _DeadlineStream(encrypted, self._until_s)

    def close(self):
        self._stream.close()

    def get_extra_info(self, info):
        return self._stream.get_extra_info(info)


class _Network(httpcore.SyncBackend):
    """Connects only to the internet, unless the local network is allowed, for `_TIMEOUT_S` in total.

    The address that was checked is the one that is used, so that DNS rebinding gains nothing.
    """

    def __init__(self, local_allowed: bool):
        self._local_allowed = local_allowed

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        until_s = time.monotonic() + _TIMEOUT_S
        addresses = self._find_addresses(host, port)
        for left in range(len(addresses), 0, -1):
            share_s = _time_left(until_s) / left  # one that does not answer leaves the others their share
            try:
                stream = super().connect_tcp(addresses[-left], port, share_s, local_address, socket_options)
                return _DeadlineStream(stream, until_s)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                if left == 1:
                    raise

    def _find_addresses(self, host: str, port: int) -> Sequence[str]:
        try:
            found = [info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except OSError as error:
            raise httpcore.ConnectError("The host name cannot be resolved.") from error
        if not self._local_allowed and not all(is_public(address) for address in found):
            raise AddressRefused("The host name resolves to a private address.")
        return found


def _time_left(until_s: float) -> float:
    left_s = until_s - time.monotonic()
    if left_s <= 0:
        raise httpcore.ReadTimeout("The message took too long.")
    return left_s


class Courier:
    """Sends what is due, a few messages at a time, alongside the analysis and without delaying it.

    Once `stopping` is set, no further message is sent: what was claimed is due again soon.
    """

    def __init__(self, database: Database, local_allowed: bool, stopping: Event | None = None):
        self._database, self._local_allowed, self._stopping = database, local_allowed, stopping or Event()
        # As many as are sent at once: one that waited for another clinic's would time out through no fault of its own.
        self._connections = httpcore.ConnectionPool(
            network_backend=_Network(local_allowed), max_connections=_AT_ONCE, max_keepalive_connections=0
        )
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook")
        self._seats = Semaphore(_AT_ONCE)

    def deliver_due(self) -> None:
        """Start sending what is due, without waiting for it."""
        if self._stopping.is_set():
            return
        free = sum(self._seats.acquire(blocking=False) for _ in range(_AT_ONCE))
        deliveries = []
        try:
            deliveries = self._claim(free) if free else []
        finally:
            for _ in range(free - len(deliveries)):
                self._seats.release()
        for delivery in deliveries:
            self._pool.submit(self._deliver, delivery)

    def _claim(self, limit: int) -> Sequence[Delivery]:
        with self._database.writing() as session:
            return webhooks.claim_deliveries(session, limit, read_clock(session))

    def _deliver(self, delivery: Delivery) -> None:
        """Send a message, then whatever else is due, one after the other."""
        try:
            following = [delivery]
            while following and not self._stopping.is_set():
                self._record(following[0], *self._send(following[0]))
                following = [] if self._stopping.is_set() else self._claim(1)
        except Exception:
            log.exception("webhook_round_broken delivery_id=%s", delivery.id)  # what was claimed is due again soon
        finally:
            self._seats.release()

    def _record(self, delivery: Delivery, error: str | None, gone: bool) -> None:
        with self._database.writing() as session:
            now = read_clock(session)
            if error is None:
                webhooks.record_delivered(session, delivery.id, now)
                return
            goes_on = webhooks.record_failure(session, delivery, error, now, gone)
        log.warning("webhook_failed delivery_id=%s error=%s goes_on=%s", delivery.id, error, goes_on)

    def _send(self, delivery: Delivery) -> tuple[str | None, bool]:
        """Send a message; return what went wrong, if anything, and whether the webhook says it is gone for good."""
        with self._database.reading() as session:
            timestamp = int(read_clock(session).timestamp())
        body = message_of(delivery)
        try:
            check_webhook_url(delivery.url, self._local_allowed)
            headers = sign(delivery, timestamp, body)
            with self._connections.stream("POST", delivery.url, headers=headers, content=body) as response:
                status = response.status  # the body is not read, however long it is
        except (RequestInvalid, AddressRefused):
            return "address_refused", False
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as error:
            return type(error).__name__, False
        return (None, False) if 200 <= status < 300 else (f"status_{status}", status == _GONE)


def message_of(delivery: Delivery) -> bytes:
    """Return the body: which case ended in which state, and nothing about the patient."""
    data = {"case_id": str(delivery.case_id), "state": delivery.state}
    message = {"type": f"case.{delivery.state}", "timestamp": delivery.created_at.isoformat(), "data": data}
    return json.dumps(message).encode()


def sign(delivery: Delivery, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers by which a webhook verifies that a message is ours, recent and unaltered."""
    message_id = f"msg_{delivery.id}"
    secret = base64.b64decode(delivery.secret.removeprefix("whsec_"))
    digest = hmac.new(secret, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": "dermqueue-webhooks/1",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
    }
