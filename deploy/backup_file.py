"""The backup file: one tar with the database, the keys, the objects and, last, a manifest with the digest of each.

The manifest comes last, so a truncated file has none. A member's name is never used as a path on this machine: readers
ask for a name that they know, and get bytes.
"""

import hashlib
import io
import json
import os
import posixpath
import shutil
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, TypeVar

from pydantic import BaseModel, ConfigDict

from deploy.private_files import create_private, sync, sync_folder
from deploy.stack import DATABASE, KEYS
from shared.errors import DermQueueError
from shared.migrations import is_known

FORMAT = 1
_MANIFEST = "manifest.json"
_OBJECTS = "objects/"

T = TypeVar("T")
Track = Callable[[Sequence[T], str], Iterable[T]]
"""Yields the items one by one while showing the progress of the task that the text names."""


class BackupError(DermQueueError):
    """A backup cannot be written or read. The detail names files: it is for the operator's terminal alone."""


class Manifest(BaseModel):
    """What the file holds, and which version wrote it."""

    model_config = ConfigDict(frozen=True)

    format: int
    version: str
    migration: str
    cases: int
    objects: int
    sha256: dict[str, str]


class BackupWriter:
    """Adds members to a backup file; made by `write_backup`. `folder` is a private folder on the same disk."""

    def __init__(self, tar: tarfile.TarFile, folder: Path):
        self._tar, self.folder = tar, folder
        self._sha256: dict[str, str] = {}

    def add(self, name: str, content: BinaryIO) -> None:
        """Add one member: all that the given file holds."""
        self._sha256[name] = hashlib.file_digest(content, "sha256").hexdigest()
        member = tarfile.TarInfo(name)
        member.size, member.mode, member.mtime = content.seek(0, os.SEEK_END), 0o600, int(time.time())
        content.seek(0)
        self._tar.addfile(member, content)

    def finish(self, migration: str, cases: int, objects: int) -> None:
        """Add the manifest."""
        manifest = Manifest(
            format=FORMAT,
            version=version("dermqueue"),
            migration=migration,
            cases=cases,
            objects=objects,
            sha256=self._sha256,
        )
        self.add(_MANIFEST, io.BytesIO(manifest.model_dump_json(indent=1).encode()))


class BackupFile:
    """A backup of which every member matches the manifest; made by `open_backup`."""

    def __init__(self, tar: tarfile.TarFile, manifest: Manifest):
        self._tar, self.manifest = tar, manifest
        self._members = {member.name: member for member in tar.getmembers()}  # tarfile would search them one by one

    def holds(self, name: str) -> bool:
        """Tell whether there is a member of this name."""
        return name in self.manifest.sha256

    def read(self, name: str) -> bytes:
        """Return a member's bytes."""
        return self._tar.extractfile(self._members[name]).read()

    def copy(self, name: str, target: Path) -> None:
        """Write a member to a file that only its owner may read; return when it has reached the disk."""
        with create_private(target) as file:
            shutil.copyfileobj(self._tar.extractfile(self._members[name]), file)
            sync(file)


def object_name(key: str) -> str:
    """Return the name of the member that holds an object."""
    return _OBJECTS + key


@contextmanager
def write_backup(file: Path) -> Iterator[BackupWriter]:
    """Write a backup that appears under its name once it is complete; a block that fails leaves nothing behind.

    Raises:
        BackupError: `backup_exists`, `backup_not_written`.
    """
    if file.exists():
        raise BackupError("backup_exists", f"{file} already exists. Choose another name.")
    try:
        with TemporaryDirectory(prefix=".dermqueue-backup-", dir=file.parent) as folder:
            partial = Path(folder) / "partial.tar"
            with create_private(partial) as out:
                with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    yield BackupWriter(tar, Path(folder))
                sync(out)
            partial.replace(file)
            sync_folder(file.parent)
    except OSError as error:
        raise BackupError("backup_not_written", f"{file} could not be written: {error.strerror}.") from error


@contextmanager
def open_backup(file: Path, track: Track) -> Iterator[BackupFile]:
    """Open a backup after comparing every member with its digest.

    Raises:
        BackupError: `backup_damaged`: truncated, altered, or not a backup. `backup_newer`: this version cannot read it.
    """
    with ExitStack() as resources:
        try:
            tar = resources.enter_context(tarfile.open(file, "r:"))
            manifest = _verify(tar, file, track)
        except (tarfile.TarError, EOFError) as error:
            raise _damaged(file, "it ends too early or was altered") from error
        yield BackupFile(tar, manifest)


def _verify(tar: tarfile.TarFile, file: Path, track: Track) -> Manifest:
    *members, last = tar.getmembers() or [tarfile.TarInfo()]
    if last.name != _MANIFEST or not last.isreg():
        raise _damaged(file, "its end is missing")
    manifest = _read_manifest(tar.extractfile(last).read(), file)
    found = {}
    for member in track(members, "checking"):
        if not member.isreg() or not _is_ours(member.name) or member.name in found:
            raise _damaged(file, f"it holds {member.name!r}, which does not belong in a backup")
        found[member.name] = hashlib.file_digest(tar.extractfile(member), "sha256").hexdigest()
    if differing := sorted(name for name, _ in found.items() ^ manifest.sha256.items()):
        raise _damaged(file, f"{differing[0]} differs from what was saved")
    if not {DATABASE, KEYS} <= found.keys():
        raise _damaged(file, "it lacks the database or the keys")
    return manifest


def _read_manifest(text: bytes, file: Path) -> Manifest:
    try:
        content = json.loads(text)
        newer = content["format"] > FORMAT
        manifest = None if newer else Manifest.model_validate(content)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(file, "its manifest cannot be read") from error
    if manifest is None or not is_known(manifest.migration):
        raise BackupError(
            "backup_newer",
            f"{file} was made by another version of DermQueue, {content.get('version')}; this one cannot read it."
            " Install that version or a newer one.",
        )
    return manifest


def _is_ours(name: str) -> bool:
    return name in (DATABASE, KEYS) or (name.startswith(_OBJECTS) and posixpath.normpath(name) == name)


def _damaged(file: Path, what: str) -> BackupError:
    return BackupError("backup_damaged", f"{file} is damaged or not a DermQueue backup: {what}. Nothing was restored.")
