"""Makes what another process has written reach the disk."""

import ctypes
import os
from pathlib import Path

from shared.errors import Unavailable

_LIBC = ctypes.CDLL(None, use_errno=True)


def sync_disk_of(folder: Path) -> None:
    """Return once all that was written to the folder's file system, by whomever, is on its disk: `syncfs(2)` of Linux.

    Raises:
        Unavailable: `storage_unavailable`: the disk refuses, or the folder is not there.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if _sync(descriptor):
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unavailable("storage_unavailable", "The image store's disk does not answer. Please try again.") from error


def _sync(descriptor: int) -> int:
    if hasattr(_LIBC, "syncfs"):
        return _LIBC.syncfs(descriptor)
    os.sync()
    return 0
