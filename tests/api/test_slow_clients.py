"""The API under gunicorn with two threads: clients send half of something, or take nothing of what they asked for."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress

import httpx
import pytest

from deploy.embedded.program import find_free_port
from shared.domain import Role
from tests.factories import add_clinic, add_key, variables_of
from tests.waiting import wait_until

PATIENCE_S, SLOWEST, THREADS = 1.0, 1000, 2
SERVE = f"""
import sys
from api import slow_clients
from api.server import run_api
from shared.settings import load_settings

slow_clients.PATIENCE_S, slow_clients.SLOWEST = {PATIENCE_S}, {SLOWEST}
run_api(load_settings(), "127.0.0.1", int(sys.argv[1]))
"""
ASK_FOR_MUCH = b"GET /docs/swagger/js/swagger-ui-bundle.js HTTP/1.1\r\nHost: x\r\n\r\n"
FORM = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 1000\r\n\r\n"

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def port(settings, database, tmp_path) -> Iterator[int]:
    port = find_free_port()
    variables = variables_of(settings) | {"DERMQUEUE_API_PROCESSES": "1", "DERMQUEUE_API_THREADS": str(THREADS)}
    with (tmp_path / "api.log").open("wb") as log:
        process = subprocess.Popen((sys.executable, "-c", SERVE, str(port)), env=os.environ | variables, stderr=log)
    wait_until(lambda: is_well(port) or process.poll() is not None, timeout_s=60)
    yield port
    process.terminate()
    assert process.wait(60) == 0
    assert "Traceback" not in (tmp_path / "api.log").read_text()


@pytest.fixture
def send(port) -> Iterator[Callable[[str], socket.socket]]:
    """Open a connection and send this over it."""
    opened = []

    def begin(text: str) -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        opened[-1].sendall(text.encode())
        return opened[-1]

    yield begin
    for connection in opened:
        connection.close()


def is_well(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False, timeout=10).status_code == 200
    except httpx.TransportError:
        return False


def read_all(connection: socket.socket) -> str:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts).decode()


def test_who_sends_half_of_something_holds_a_thread_only_for_as_long_as_the_server_has_patience(port, send, database):
    key = add_key(database, Role.CLINIC, add_clinic(database))
    parts = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 100000\r\n\r\n--b"
    halves = {
        "": "POST /app/sign-in HTTP/1.1\r\nHost: x\r\n",
        "The request arrived too slowly.": f"POST /app/sign-in HTTP/1.1\r\nHost: x\r\n{FORM}key=",
        '"code": "request_too_slow"': f"POST /v1/cases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n{parts}",
    }
    for told, half in halves.items():
        senders = [send(half) for _ in range(THREADS)]
        assert is_well(port)
        for answer in map(read_all, senders):
            assert answer.startswith("HTTP/1.1 408 ") if told else answer == ""
            assert told in answer
        began_s = time.monotonic()
        assert is_well(port)
        assert time.monotonic() - began_s < 1.5  # gunicorn would wait for each one's last bytes, 2 s long


def test_who_sends_a_little_now_and_then_is_let_go_and_who_keeps_up_the_least_rate_is_not(port, send):
    def keep_sending(size: int) -> bytes:
        began_s = time.monotonic()
        connection = send(f"POST /app/sign-in HTTP/1.1\r\nHost: x\r\n{FORM}")
        with suppress(ConnectionError):
            for _ in range(1000 // size):
                time.sleep(0.2)
                connection.sendall(b"k" * size)
        assert time.monotonic() - began_s > PATIENCE_S
        return connection.recv(12)

    assert keep_sending(20) == b"HTTP/1.1 408"
    assert keep_sending(125) == b"HTTP/1.1 401"


@pytest.mark.parametrize("piece", ["no size\r\n", "3\r\nkey=\r\n"], ids=["size", "end"])
def test_whose_body_comes_in_broken_pieces_is_told_that_it_cannot_be_read(port, send, database, piece):
    key = add_key(database, Role.CLINIC, add_clinic(database))
    in_pieces = "Transfer-Encoding: chunked\r\n\r\n" + piece
    for head in (
        "POST /app/sign-in HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n",
        f"POST /v1/cases HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n",
    ):
        answer = read_all(send(head + in_pieces))
        assert answer.startswith("HTTP/1.1 400 ")
        assert "The request could not be read." in answer
        assert answer.count("HTTP/1.1") == 1


def test_who_takes_nothing_of_an_answer_is_cut_off(port):
    with ExitStack() as deaf_clients:
        for _ in range(THREADS):
            deaf = deaf_clients.enter_context(socket.socket())
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", port))
            deaf.sendall(ASK_FOR_MUCH * 8)  # more than lies in any buffer
        assert is_well(port)
