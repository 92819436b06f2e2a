"""A server whose answers trickle in: every read gets something in time, and the end never comes."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread


@contextmanager
def running_trickler(beginning: bytes, drop: bytes) -> Iterator[str]:
    """Send every client of the yielded address a beginning, and then one drop after another for ever."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        Thread(target=_trickle, args=(server, beginning, drop), daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


def _trickle(server: socket.socket, beginning: bytes, drop: bytes) -> None:
    with suppress(OSError):
        while True:
            Thread(target=_trickle_to, args=(server.accept()[0], beginning, drop), daemon=True).start()


def _trickle_to(connection: socket.socket, beginning: bytes, drop: bytes) -> None:
    with connection, suppress(OSError):
        connection.sendall(beginning)
        while True:
            connection.sendall(drop)
            time.sleep(0.05)
