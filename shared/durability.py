"""Makes the writes of another process reach the disk."""

import ctypes
import os
from pathlib import Path

from shared.errors import Unavailable

_LIBC = ctypes.CDLL(None, use_errno=True)


def sync_disk_of(folder: Path) -> None:
    """Return once everything written to the folder's file system, by any process, is on disk: `syncfs(2)` of Linux.

    Raises:
        Unavailable: `storage_unavailable`: the disk reports an error, or there is no such folder.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            if _sync(descriptor):
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unavailable("storage_unavailable", "The image store cannot write to disk. Please try again.") from error


def _sync(descriptor: int) -> int:
    if hasattr(_LIBC, "syncfs"):
        return _LIBC.syncfs(descriptor)
    os.sync()
    return 0
