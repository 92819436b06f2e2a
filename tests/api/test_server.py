"""The process that serves the API."""

import subprocess
import sys

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
