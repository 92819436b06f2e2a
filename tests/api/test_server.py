"""The process that serves the API."""

import logging
import subprocess
import sys

import pytest
from gunicorn.config import Config

from api.server import _Logger

USE_AND_FREE = """
from threading import Barrier, Thread
from api.server import _give_memory_back

_give_memory_back()
threads, megabyte = 8, 10**6
freed, done = Barrier(threads + 1), Barrier(threads + 1)

def resident_bytes():
    with open("/proc/self/statm") as numbers:
        return int(numbers.read().split()[1]) * 4096

def take_in():
    for _ in range(4):
        photograph = b"x" * 15 * megabyte
        stripped = photograph[:-1]
        del photograph, stripped
    freed.wait()
    done.wait()

before = resident_bytes()
for _ in range(threads):
    Thread(target=take_in).start()
freed.wait()
print((resident_bytes() - before) // megabyte)
done.wait()
"""


def test_what_photographs_took_is_given_back_by_every_thread():
    used = subprocess.run([sys.executable, "-c", USE_AND_FREE], capture_output=True, text=True, check=True)
    assert int(used.stdout) < 20


@pytest.mark.parametrize(
    ("message", "arguments", "logged"),
    [
        ("Invalid request from ip=::1: Invalid HTTP Header: 'Bearer dq_key'", (), "Invalid request from ip=::1"),
        ("Error handling request %s %s", ("GET", "/v1/cases?reference=Jane"), "Error handling request"),
        ("Error handling request %s", ("/v1/cases?reference=Jane",), "Error handling request"),
        ("Booting worker with pid: %s", (5,), "Booting worker with pid: 5"),
    ],
)
def test_gunicorn_quotes_nothing_of_a_request_that_it_could_not_handle(caplog, message, arguments, logged):
    caplog.set_level(logging.WARNING)
    _Logger(Config()).warning(message, *arguments)
    assert caplog.messages == [logged]
