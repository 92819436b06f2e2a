"""Servers that answer from a thread of the test's own process."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from socketserver import BaseServer
from threading import Thread

from flask import Flask
from werkzeug.serving import make_server

_POLL_S = 0.01
"""How often a server looks whether it is to stop; the default, 0.5 s, would be waited for at the end of each test."""


@contextmanager
def serving(server: BaseServer) -> Iterator[str]:
    """Let a server answer inside the block; yields its address."""
    thread = Thread(target=server.serve_forever, args=(_POLL_S,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def serving_app(app: Flask) -> AbstractContextManager[str]:
    """Serve the app to browsers and other processes."""
    return serving(make_server("127.0.0.1", 0, app, threaded=True))
