"""Tells clinics' webhooks of final states, as https://www.standardwebhooks.com says."""

import base64
import hashlib
import hmac
import json
import logging
import socket
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Semaphore

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
    """A name leads to a machine that is not on the internet."""


class _PublicNetwork(httpcore.SyncBackend):
    """Connects to the internet alone. The address that was looked at is the one that is used, so that a name which
    changes its mind in between gains nothing."""

    def connect_tcp(self, host, port, timeout=None, local_address=None, socket_options=None):
        try:
            found = [info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except OSError as error:
            raise httpcore.ConnectError("The name is not known.") from error
        if not all(is_public(address) for address in found):
            raise AddressRefused("The name leads to a private address.")
        for address in found[:-1]:
            with suppress(httpcore.ConnectError, httpcore.ConnectTimeout):
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
        return super().connect_tcp(found[-1], port, timeout, local_address, socket_options)


class Courier:
    """Sends what is due, a few messages at a time, beside the analysis and not in its way."""

    def __init__(self, database: Database, local_allowed: bool):
        self._database, self._local_allowed = database, local_allowed
        network = httpcore.SyncBackend() if local_allowed else _PublicNetwork()
        self._connections = httpcore.ConnectionPool(network_backend=network, max_keepalive_connections=0)
        self._pool = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="webhook")
        self._seats = Semaphore(_AT_ONCE)

    def deliver_due(self) -> None:
        """Begin to send what is due; do not wait for it."""
        free = sum(self._seats.acquire(blocking=False) for _ in range(_AT_ONCE))
        deliveries = []
        try:
            deliveries = self._claim(free) if free else []
        finally:
            for _ in range(free - len(deliveries)):
                self._seats.release()
        for delivery in deliveries:
            self._pool.submit(self._deliver, delivery)

    def wait(self) -> None:
        """Wait until nothing is under way."""
        for _ in range(_AT_ONCE):
            self._seats.acquire()
        self._seats.release(_AT_ONCE)

    def _claim(self, limit: int) -> Sequence[Delivery]:
        with self._database.writing() as session:
            return webhooks.claim_deliveries(session, limit, read_clock(session))

    def _deliver(self, delivery: Delivery) -> None:
        """Send a message, and one after the other whatever else is due."""
        try:
            following = [delivery]
            while following:
                self._record(following[0], *self._send(following[0]))
                following = self._claim(1)
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
        """Return what went wrong, and whether the webhook says that it is gone for good."""
        with self._database.reading() as session:
            timestamp = int(read_clock(session).timestamp())
        body = message_of(delivery)
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), _TIMEOUT_S)
        try:
            check_webhook_url(delivery.url, self._local_allowed)
            headers = sign(delivery, timestamp, body)
            with self._connections.stream(
                "POST", delivery.url, headers=headers, content=body, extensions={"timeout": timeouts}
            ) as response:
                status = response.status  # what it says is of no interest, however long it is
        except (RequestInvalid, AddressRefused):
            return "address_refused", False
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError, OSError, ValueError) as error:
            return type(error).__name__, False
        return (None, False) if 200 <= status < 300 else (f"status_{status}", status == _GONE)


def message_of(delivery: Delivery) -> bytes:
    """Return the body: which case has ended how, and nothing of whom it is about."""
    data = {"case_id": str(delivery.case_id), "state": delivery.state}
    message = {"type": f"case.{delivery.state}", "timestamp": delivery.created_at.isoformat(), "data": data}
    return json.dumps(message).encode()


def sign(delivery: Delivery, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers by which a webhook knows that a message is ours, is new and was not altered."""
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
