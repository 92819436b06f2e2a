"""The clients of the benchmark: what they count is what was answered, as it should be."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.benchmarks.load import UNIQUE, Request, drive
from tests.servers.serving import serving


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.seen.append(self.headers["Word"])
        self.send_response(304 if self.path == "/unchanged" else 200)
        self.send_header("Content-Length", "70000")
        self.end_headers()
        if self.path != "/unchanged":
            self.wfile.write(b"x" * 70_000)

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.seen = []
    with serving(server):
        yield server


def get(path: str) -> Request:
    return Request(b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\nWord: " + UNIQUE + b"\r\n\r\n")


@pytest.mark.parametrize(("path", "status"), [("/", 200), ("/unchanged", 304)])
def test_every_answer_is_read_to_its_end_and_counted_once(server, path, status):
    load = drive(server.server_port, [get(path)], status, connections=3, seconds=0.2)
    assert len(server.seen) >= 3
    assert len(set(server.seen)) == len(server.seen)
    assert 0 < load.per_s * 0.2 <= len(server.seen)


def test_an_answer_of_another_status_ends_the_measurement(server):
    with pytest.raises(AssertionError, match=r"HTTP/1\.1 200"):
        drive(server.server_port, [get("/")], 202, connections=1, seconds=60)
