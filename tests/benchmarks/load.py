"""Clients that cost little beside what they measure: keep-alive connections, a thread each, and no HTTP library."""

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import NamedTuple
from uuid import uuid4

UNIQUE = b"{unique}"
"""In a request's head: stands for another word in every request."""

_READ_BYTES = 64 * 1024


class Request(NamedTuple):
    """What goes over the wire."""

    head: bytes
    body: bytes = b""


class Load(NamedTuple):
    """What was answered per second, and how many cores the clients themselves took for it."""

    per_s: float
    client_cores: float


def drive(port: int, requests: Sequence[Request], status: int, connections: int, seconds: float) -> Load:
    """Send these requests in turn on every connection, each after the last answer, which must have this status."""
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(connections) as threads:
        clients = [
            threads.submit(_repeat, port, requests[number % len(requests) :] + requests, status, began_s + seconds)
            for number in range(connections)
        ]
        answered = sum(client.result() for client in clients)
    taken_s = time.perf_counter() - began_s
    return Load(answered / taken_s, (time.process_time() - began_cpu_s) / taken_s)


def _repeat(port: int, requests: Sequence[Request], status: int, until_s: float) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for answered, request in enumerate(cycle(requests)):
            if time.perf_counter() >= until_s:
                return answered
            connection.sendall(request.head.replace(UNIQUE, uuid4().hex.encode()) + request.body)
            _read_answer(connection, status)


def _read_answer(connection: socket.socket, status: int) -> None:
    answer = b""
    while (head := answer.find(b"\r\n\r\n")) < 0:
        answer += _read_some(connection)
    if int(answer[9:12]) != status:
        raise AssertionError(answer.decode(errors="replace"))
    _, named, length = answer[:head].lower().partition(b"\r\ncontent-length:")
    missing = head + 4 + int(length.split(b"\r\n", 1)[0]) - len(answer) if named and status != 304 else 0
    while missing > 0:
        missing -= len(_read_some(connection))


def _read_some(connection: socket.socket) -> bytes:
    data = connection.recv(_READ_BYTES)
    if not data:
        raise AssertionError("the server closed the connection")
    return data
