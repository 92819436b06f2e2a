"""Keeps slow clients from holding the server's few threads."""

import socket
import time
from contextlib import suppress

from gunicorn.http import get_parser
from gunicorn.http.errors import NoMoreData
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.gthread import ThreadWorker

from shared.errors import RequestInvalid

PATIENCE_S = 30.0
"""How long a client may be silent, and by how much the total wait may exceed the time that `SLOWEST` would need."""

SLOWEST = 4096
"""Bytes per second: a tenth of a poor mobile connection's rate."""


class PatientWorker(ThreadWorker):
    """A gthread worker whose threads wait for a client for a limited time; gunicorn's own wait for ever."""

    def handle(self, conn):
        if conn.parser is None:
            conn.parser = get_parser(self.cfg, conn.sock, conn.client)
            conn.parser.unreader = _PatientUnreader(conn.sock)
            # The kernel drops a client that reads nothing of its answer (tcp(7)).
            conn.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(PATIENCE_S * 1000))
        conn.parser.unreader.begin_request()
        goes_on = super().handle(conn)
        if conn.parser.unreader.gave_up:  # otherwise the accepting thread would wait for this client's last bytes
            with suppress(OSError):
                conn.sock.shutdown(socket.SHUT_RD)
        return goes_on

    def handle_request(self, req, conn):
        conn.parser.unreader.begin_body()
        return super().handle_request(req, conn)


class _PatientUnreader(SocketUnreader):
    def begin_request(self) -> None:
        self._left_s, self._in_body, self.gave_up = PATIENCE_S, False, False

    def begin_body(self) -> None:
        self._in_body = True

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Receive the next bytes.

        Raises:
            NoMoreData: the head arrived too slowly; the server closes the connection.
            RequestInvalid: `request_too_slow`: the body did.
        """
        if self.sock.gettimeout() is not None:  # the server is discarding the rest, with its own deadline
            return super().chunk(size_hint)
        began_s = time.monotonic()
        try:
            self.sock.settimeout(max(0.001, min(self._left_s, PATIENCE_S)))
            data = super().chunk(size_hint)
        except TimeoutError as error:
            self.gave_up = True
            if not self._in_body:
                raise NoMoreData() from error
            raise RequestInvalid(
                "request_too_slow", "The request arrived too slowly. None of it was accepted; send it again."
            ) from error
        finally:
            self.sock.settimeout(None)
        self._left_s += len(data) / SLOWEST - (time.monotonic() - began_s)
        return data
