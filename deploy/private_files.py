"""Files that only their owner may read, and waiting until writes have reached the disk."""

import os
from pathlib import Path
from typing import BinaryIO


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically by one that only its owner may read; return when it has reached the disk."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with create_private(partial) as file:
        file.write(text.encode())
        sync(file)
    partial.replace(path)
    sync_folder(path.parent)


def create_private(path: Path) -> BinaryIO:
    """Create a file that only its owner may read.

    Raises:
        FileExistsError: there is one.
    """
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def sync(file: BinaryIO) -> None:
    """Return when the file has reached the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder have reached the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
