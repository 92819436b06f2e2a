"""Backup and restore of the local stack.

An object is stored before the row that points to it is committed, so everything that a snapshot of the database
promises is in the store, however many cases arrive meanwhile: hence first the database, then the objects. The broker is
left out, since its messages hold nothing that the rows do not.
"""

import hashlib
import io
import mimetypes
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.backup_file import BackupError, BackupFile, BackupWriter, Track, object_name, open_backup, write_backup
from deploy.embedded.supervisor import OnEvent
from deploy.private_files import write_private
from deploy.stack import (
    DATABASE,
    KEYS,
    RESTORING,
    keeps_data_elsewhere,
    local_store,
    own_folder,
    own_if_free,
)
from shared.database import Database, open_database
from shared.durability import sync_disk_of
from shared.errors import ConfigurationInvalid, ObjectInaccessible, ObjectMissing
from shared.migrations import read_migration, upgrade
from shared.object_keys import digest_in_key
from shared.settings import STACK_ENV, load_settings
from shared.storage import ObjectStore, open_object_store
from shared.store.objects import PromisedObject, list_promised


@dataclass(frozen=True)
class Report:
    """What was saved or restored. `missing`: objects that rows promise and that the store lacks or has damaged."""

    cases: int
    objects: int
    missing: Sequence[PromisedObject]


def back_up(data_dir: Path, file: Path, on_event: OnEvent, track: Track) -> Report:
    """Save the stack of a data folder, whether it runs or not.

    Raises:
        ConfigurationInvalid: `data_elsewhere`; `stack_missing`.
        BackupError: `backup_exists`; `backup_not_written`; `database_not_copied`.
        Unavailable: the object store went away.
    """
    _refuse_data_elsewhere()
    database, keys = data_dir / DATABASE, data_dir / KEYS
    if not (database.exists() and keys.exists()):
        raise ConfigurationInvalid("stack_missing", f"No stack has run in {data_dir} yet: there is nothing to save.")
    with _reachable_store(data_dir, on_event) as store, write_backup(file) as backup:
        snapshot = backup.folder / DATABASE
        promised, missing = _save_objects(database, snapshot, store, backup, track)
        report = _report(promised, missing)
        with snapshot.open("rb") as content:
            backup.add(DATABASE, content)
        backup.add(KEYS, io.BytesIO(keys.read_bytes()))
        with _opened(snapshot) as copy:
            backup.finish(read_migration(copy), report.cases, report.objects)
    return report


def restore(file: Path, data_dir: Path, on_event: OnEvent, track: Track) -> Report:
    """Make a new data folder from a backup and read every object back. An interrupted call can be repeated.

    Raises:
        ConfigurationInvalid: `data_elsewhere`; `data_dir_taken`; `data_dir_in_use`.
        BackupError: `backup_damaged`; `backup_newer`; then nothing was written.
        Unavailable: the object store went away.
    """
    _refuse_data_elsewhere()
    _refuse_taken(data_dir)
    with open_backup(file, track) as backup, own_folder(data_dir):
        _refuse_taken(data_dir)  # a stack may have been started there while the file was checked
        staged = data_dir / RESTORING
        promised = _restore_database(backup, staged)
        with local_store(data_dir, on_event) as settings:
            store = open_object_store(settings)
            _restore_objects(backup, promised, store, track)
            missing = [promise for promise in track(promised, "reading") if _fetch(store, promise) is None]
        write_private(data_dir / KEYS, backup.read(KEYS).decode())
        sync_disk_of(data_dir)  # the objects first, then the database that promises them
        staged.replace(data_dir / DATABASE)
        sync_disk_of(data_dir)
    return _report(promised, missing)


def _save_objects(
    database: Path, snapshot: Path, store: ObjectStore, backup: BackupWriter, track: Track
) -> tuple[Sequence[PromisedObject], set[PromisedObject]]:
    """Leave a snapshot of the database, save all objects that it promises, and return those and the missing ones.

    An object may be gone because its case was deleted meanwhile. A newer snapshot no longer promises it; one that is
    still promised is really missing.
    """
    saved, missing = set(), set()
    while True:
        _take_snapshot(database, snapshot)
        with _opened(snapshot) as copy, copy.reading() as session:
            promised = list_promised(session)
        earlier, missing = missing, set()
        for promise in track([promise for promise in promised if promise.key not in saved], "saving"):
            data = _fetch(store, promise)
            if data is None:
                missing.add(promise)
            else:
                backup.add(object_name(promise.key), io.BytesIO(data))
                saved.add(promise.key)
        if missing <= earlier:
            return promised, missing


def _take_snapshot(database: Path, snapshot: Path) -> None:
    """Copy a database as it is at one moment, without blocking writers."""
    try:
        with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(snapshot)) as target:
            source.backup(target)
    except sqlite3.Error as error:
        raise BackupError("database_not_copied", f"{database} could not be copied: {error}.") from error


def _restore_database(backup: BackupFile, staged: Path) -> Sequence[PromisedObject]:
    """Write the database under a name that no stack uses, upgrade it, and return what it promises."""
    for left_over in staged.parent.glob(f"{staged.name}*"):
        left_over.unlink()
    backup.copy(DATABASE, staged)
    with _opened(staged) as database:
        upgrade(database)
        with database.reading() as session:
            return list_promised(session)


def _restore_objects(backup: BackupFile, promised: Sequence[PromisedObject], store: ObjectStore, track: Track) -> None:
    for promise in track([promise for promise in promised if backup.holds(object_name(promise.key))], "restoring"):
        media_type, _ = mimetypes.guess_type(promise.key, strict=False)
        store.put(promise.key, backup.read(object_name(promise.key)), media_type)


def _fetch(store: ObjectStore, promise: PromisedObject) -> bytes | None:
    """Return an object's bytes, or None where they are gone, inaccessible, or not those that were stored."""
    try:
        data = store.get(promise.key)
    except ObjectMissing:
        return None
    except ObjectInaccessible as error:  # as on a damaged block of the disk
        store.check_after(error)
        return None
    is_whole = promise.what != "photograph" or hashlib.sha256(data).hexdigest() == digest_in_key(promise.key)
    return data if is_whole else None


@contextmanager
def _reachable_store(data_dir: Path, on_event: OnEvent) -> Iterator[ObjectStore]:
    """Connect to the store of the stack that runs in a folder; if none does, run the store alone."""
    with own_if_free(data_dir) as is_ours, ExitStack() as resources:
        settings = resources.enter_context(local_store(data_dir, on_event)) if is_ours else load_settings(data_dir)
        yield open_object_store(settings)


@contextmanager
def _opened(file: Path) -> Iterator[Database]:
    database = open_database(f"sqlite:///{file}")
    try:
        yield database
    finally:
        database.engine.dispose()


def _refuse_taken(data_dir: Path) -> None:
    is_begun = (data_dir / RESTORING).exists()
    if (data_dir / DATABASE).exists() or ((data_dir / STACK_ENV).exists() and not is_begun):
        raise ConfigurationInvalid(
            "data_dir_taken", f"{data_dir} already holds a stack. Restore into a new folder: --data-dir NEW."
        )


def _refuse_data_elsewhere() -> None:
    if keeps_data_elsewhere():
        raise ConfigurationInvalid(
            "data_elsewhere",
            "The database or the object store is given by URL: use their own tools. Save the database first (pg_dump),"
            " then the store (a copy of the bucket; a replica would keep what is erased here). An object is stored"
            " before its row, so the later copy of the store has everything that the earlier one of the database refers"
            " to.",
        )


def _report(promised: Sequence[PromisedObject], missing: Collection[PromisedObject]) -> Report:
    return Report(len({promise.case_id for promise in promised}), len(promised) - len(missing), sorted(missing))
