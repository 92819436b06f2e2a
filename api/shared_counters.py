"""Lets the API's processes count together: each in files of its own, with which its successor goes on."""

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
"""Room for some thousand clinics; a file that is full grows."""

_place = None
"""This process's place among those that run: the number of its files."""

log = logging.getLogger(__name__)


def share_counters(processes: int) -> None:
    """Have whatever is counted from now on counted in files that `/metrics` sums up; call it before any is made.

    The files are mapped: a write for which there is no room would end the process. So they lie in memory, where no
    other program's disk is full, and have their room from the start. Without room, each process counts alone.
    """
    owner = os.getpid()
    try:
        _remove_abandoned()
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_IN_MEMORY)
        fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX)  # until the last of our processes has ended
        # The forked processes inherit this and must leave the folder alone.
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
    """Remove what processes left that were killed."""
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
    """Give a process that is about to be forked the first place that none of the others has.

    Files by process ids would pile up, since what the dead have counted must stay in the sum.
    """
    global _place
    taken = {other.place for other in arbiter.WORKERS.values()}
    _place = worker.place = next(place for place in count() if place not in taken)
