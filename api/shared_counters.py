"""Lets `/metrics` sum the counters of all API processes: each has its own files, which its successor takes over."""

import atexit
import fcntl
import logging
import os
import shutil
import tempfile
from contextlib import suppress
from itertools import count
from pathlib import Path

from gunicorn.arbiter import Arbiter
from gunicorn.workers.base import Worker
from prometheus_client import values

_IN_MEMORY = "/dev/shm"  # nosec B108  # mkdtemp is used
_PREFIX = "dermqueue-api-"
_KINDS = ("counter", "histogram")
_FILE_BYTES = 2**20
"""Room for several thousand clinics; a full file grows."""

_place = None
"""This process's number among those running, which names its files."""

log = logging.getLogger(__name__)


def share_counters(processes: int) -> None:
    """Keep all counters created from now on in files that `/metrics` sums; call this before any is created.

    The files are memory-mapped, and a write for which there is no room would kill the process. So they lie in memory,
    out of reach of a full disk, and have their space reserved. Without space, each process counts alone.
    """
    owner = os.getpid()
    try:
        _remove_abandoned()
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_IN_MEMORY)
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)  # held until our last process has ended
        # Forked processes inherit this handler and must not remove the folder.
        atexit.register(lambda: os.getpid() == owner and shutil.rmtree(folder, ignore_errors=True))
        for place in range(processes):
            for kind in _KINDS:
                _reserve(Path(folder, f"{kind}_{place}.db"))
    except OSError as error:
        log.warning("counters_not_shared error=%s", error.strerror)
        return
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: _place)


def _remove_abandoned() -> None:
    """Remove the folders of processes that were killed."""
    for folder in Path(_IN_MEMORY).glob(_PREFIX + "*"):
        with suppress(OSError):  # in use, or another user's
            opened = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(opened)


def _reserve(file: Path) -> None:
    with file.open("xb") as opened:
        os.posix_fallocate(opened.fileno(), 0, _FILE_BYTES)


def take_place(arbiter: Arbiter, worker: Worker) -> None:
    """Give a process that is about to be forked the lowest free place.

    Files named by process id would pile up, since the sum must keep the counts of ended processes.
    """
    global _place
    taken = {other.place for other in arbiter.WORKERS.values()}
    _place = worker.place = next(place for place in count() if place not in taken)
