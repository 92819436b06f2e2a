"""What a backup saves and what a restore makes of it. `tests/journey/test_backup.py` does both with whole stacks."""

import json
import stat
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from click.testing import CliRunner

from deploy import backup
from deploy.backup_file import BackupError
from deploy.cli import main
from deploy.stack import local_stack, local_store, own_folder
from shared.database import Database, open_database, read_clock
from shared.domain import Case
from shared.errors import ConfigurationInvalid, ObjectRefused, Unavailable
from shared.migrations import _config, check_upgraded, upgrade
from shared.storage import ObjectStore, open_object_store
from shared.store import cases
from shared.store.objects import list_promised
from tests.api.calls import STORED_OVERLAY, record_result
from tests.factories import add_clinic, add_photograph, clinic_caller

LESIONS = [bytes([number]) * 5000 for number in range(3)]
KEYS = '{"clinic_key": "dq_made_up"}'


@pytest.fixture
def data_dir(tmp_path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def database_url(data_dir) -> str:
    data_dir.mkdir()
    url = f"sqlite:///{data_dir / 'dermqueue.sqlite3'}"
    database = open_database(url)
    upgrade(database)
    database.engine.dispose()
    return url


@pytest.fixture
def saved_cases(data_dir, settings, database, store) -> Iterator[list[Case]]:
    """Three cases, the first one analysed, in a folder in which a stack runs as far as a backup can tell."""
    values = settings.model_dump(mode="json", exclude_unset=True)
    values["s3_secret_key"] = settings.s3_secret_key.get_secret_value()
    lines = (f"DERMQUEUE_{name.upper()}={value}\n" for name, value in values.items())
    (data_dir / "stack.env").write_text("".join(lines))
    (data_dir / "keys.json").write_text(KEYS)
    clinic_id = add_clinic(database)
    added = [add_photograph(database, store, clinic_id, lesion) for lesion in LESIONS]
    record_result(database, store, str(added[0].id))
    with own_folder(data_dir):
        yield added


@pytest.fixture
def file(tmp_path) -> Path:
    """The backup's path, in a folder with nothing else."""
    (tmp_path / "safe").mkdir()
    return tmp_path / "safe" / "stack.tar"


@pytest.fixture
def save(data_dir, saved_cases, file) -> Callable:
    """Back the folder up into `file`."""

    def back_up(track=lambda items, what: items) -> backup.Report:
        return backup.back_up(data_dir, file, lambda *event: None, track)

    return back_up


def restore(file: Path, data_dir: Path, track=lambda items, what: items) -> backup.Report:
    return backup.restore(file, data_dir, lambda *event: None, track)


def delete(database: Database, store: ObjectStore, case: Case) -> None:
    """Do as the API does."""
    with database.writing() as session:
        cases.delete_case(session, clinic_caller(case.clinic_id), case.id, read_clock(session))
    store.erase_case(case.clinic_id, case.id)


def read_members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def ids_of_cases(database: Database) -> set:
    """Return the cases that are not deleted."""
    with database.reading() as session:
        return {promise.case_id for promise in list_promised(session)}


@contextmanager
def database_in(file: Path, tmp_path: Path) -> Iterator[Database]:
    """Open a copy of a backup's database."""
    copy = tmp_path / "copy.sqlite3"
    copy.write_bytes(read_members(file)["dermqueue.sqlite3"])
    database = open_database(f"sqlite:///{copy}")
    yield database
    database.engine.dispose()


def test_a_backup_is_one_private_file_with_every_object_and_the_keys(save, saved_cases, file):
    report = save()
    assert (report.cases, report.objects, report.missing) == (3, 4, [])
    assert list(file.parent.iterdir()) == [file]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    members = read_members(file)
    assert [members[f"objects/{case.photograph.key}"] for case in saved_cases] == LESIONS
    assert list(members.values()).count(STORED_OVERLAY) == 1
    assert members["keys.json"].decode() == KEYS
    manifest = json.loads(members["manifest.json"])
    assert (manifest["format"], manifest["cases"], manifest["objects"]) == (1, 3, 4)
    assert manifest["sha256"].keys() == members.keys() - {"manifest.json"}


def test_a_case_that_is_deleted_while_the_backup_runs_is_deleted_in_it_too(
    save, saved_cases, file, database, store, tmp_path
):
    doomed = saved_cases[0]

    def delete_meanwhile(items, what):
        if doomed.id in ids_of_cases(database):
            delete(database, store, doomed)
        yield from items

    report = save(delete_meanwhile)
    assert (report.cases, report.objects, report.missing) == (2, 2, [])
    with database_in(file, tmp_path) as saved:
        assert ids_of_cases(saved) == {case.id for case in saved_cases[1:]}
    assert not any(str(doomed.id) in name for name in read_members(file))


def test_a_case_that_is_added_while_the_backup_runs_is_in_it_whole_or_not_at_all(
    save, saved_cases, file, database, store, tmp_path
):
    def add_meanwhile(items, what):
        yield from items
        add_photograph(database, store, saved_cases[0].clinic_id, b"late")

    report = save(add_meanwhile)
    assert report.missing == []
    with database_in(file, tmp_path) as saved, saved.reading() as session:
        names = {f"objects/{promise.key}" for promise in list_promised(session)}
    assert names <= read_members(file).keys()


@pytest.mark.parametrize("harm", ["gone", "altered"])
def test_a_photograph_that_is_lost_is_named_and_the_rest_is_saved(save, saved_cases, file, store, data_dir, harm):
    lost, *others = saved_cases[::-1]
    if harm == "gone":
        store.delete(lost.photograph.key)
    else:
        store.put(lost.photograph.key, b"not the photograph", "image/jpeg")
    done = CliRunner().invoke(main, ["backup", str(file), "--data-dir", str(data_dir)])
    assert done.exit_code == 1
    assert f"Case {lost.id}: its photograph is missing or damaged." in done.stderr
    assert "patients' photographs" in done.stdout
    members = read_members(file)
    assert f"objects/{lost.photograph.key}" not in members
    assert all(f"objects/{case.photograph.key}" in members for case in others)


def test_an_object_that_the_store_cannot_read_is_left_out_and_named(save, saved_cases, file, monkeypatch):
    lost, *others = saved_cases
    get = ObjectStore.get

    def read_disk(store: ObjectStore, key: str) -> bytes:
        if key == lost.photograph.key:
            raise ObjectRefused("storage_unavailable", "InternalError, as SeaweedFS says of a damaged block.")
        return get(store, key)

    monkeypatch.setattr(ObjectStore, "get", read_disk)
    report = save()
    assert [(promise.case_id, promise.what) for promise in report.missing] == [(lost.id, "photograph")]
    assert all(f"objects/{case.photograph.key}" in read_members(file) for case in others)


def test_a_backup_is_never_written_over_another_file(save, file):
    file.write_text("yesterday's")
    with pytest.raises(BackupError, match="backup_exists"):
        save()
    assert file.read_text() == "yesterday's"


def test_an_interrupted_backup_leaves_nothing(save, file):
    def store_goes_away(items, what):
        raise Unavailable("storage_unavailable", "It is away.")

    with pytest.raises(Unavailable):
        save(store_goes_away)
    assert list(file.parent.iterdir()) == []


def test_a_backup_that_cannot_be_written_says_so(save, file):
    file.parent.rmdir()
    with pytest.raises(BackupError, match="No such file or directory") as caught:
        save()
    assert caught.value.code == "backup_not_written"


def test_a_folder_in_which_no_stack_has_run_has_nothing_to_save(data_dir, file):
    with pytest.raises(ConfigurationInvalid, match="there is nothing to save"):
        backup.back_up(data_dir, file, lambda *event: None, lambda items, what: items)
    assert not data_dir.exists()


@pytest.mark.parametrize("variable", ["DERMQUEUE_DATABASE_URL", "DERMQUEUE_S3_BUCKET"])
@pytest.mark.parametrize("name", ["backup", "restore"])
def test_what_is_given_by_url_is_left_to_its_own_tools(name, variable, file, monkeypatch, data_dir):
    monkeypatch.setenv(variable, "postgresql://db.example/dermqueue")
    if name == "restore":
        file.touch()
    done = CliRunner().invoke(main, [name, str(file), "--data-dir", str(data_dir)])
    assert done.exit_code == 1
    assert "database first (pg_dump)" in done.stderr
    assert not data_dir.exists()


def test_a_folder_that_holds_a_stack_is_refused(save, file, data_dir):
    save()
    before = (data_dir / "dermqueue.sqlite3").read_bytes()
    with pytest.raises(ConfigurationInvalid, match="data_dir_taken"):
        restore(file, data_dir)
    assert (data_dir / "dermqueue.sqlite3").read_bytes() == before


def test_an_older_backup_is_upgraded_and_what_was_lost_already_is_named(
    save, saved_cases, file, database, store, tmp_path
):
    lost = saved_cases[2]
    store.delete(lost.photograph.key)
    with database.writer.begin() as connection:
        command.downgrade(_config(connection), "0001")
    assert len(save().missing) == 1

    target = tmp_path / "restored"
    done = CliRunner().invoke(main, ["restore", str(file), "--data-dir", str(target)])
    assert done.exit_code == 1, done.output
    assert f"Case {lost.id}: its photograph is missing or damaged." in done.stderr
    restored = open_database(f"sqlite:///{target / 'dermqueue.sqlite3'}")
    check_upgraded(restored)
    assert ids_of_cases(restored) == {case.id for case in saved_cases}
    restored.engine.dispose()


def test_an_interrupted_restore_is_resumed_by_the_same_command(save, saved_cases, file, tmp_path):
    save()
    target = tmp_path / "restored"

    def power_fails(items, what):
        if what == "reading":
            raise KeyboardInterrupt
        return items

    with pytest.raises(KeyboardInterrupt):
        restore(file, target, power_fails)
    assert not (target / "dermqueue.sqlite3").exists()
    with pytest.raises(ConfigurationInvalid, match="restore_unfinished"), local_stack(target, 1, print) as stack:
        stack.start()

    report = restore(file, target)
    assert (report.cases, report.objects, report.missing) == (3, 4, [])
    assert (target / "keys.json").read_text() == KEYS
    assert stat.S_IMODE((target / "keys.json").stat().st_mode) == 0o600
    assert not list(target.glob("*.restoring*"))
    with own_folder(target), local_store(target, lambda *event: None) as settings:
        store = open_object_store(settings)
        assert [store.get(case.photograph.key) for case in saved_cases] == LESIONS
