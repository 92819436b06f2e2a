"""Files of secrets are their owner's alone from their first moment on."""

import os
import stat

import pytest

from deploy.private_files import create_private, write_private


@pytest.fixture
def _open_umask():
    """A umask that removes no permissions."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_open_umask")
def test_a_file_that_others_could_read_is_replaced_by_a_private_one(tmp_path):
    file = tmp_path / "keys.json"
    file.write_text("old")
    (tmp_path / "keys.partial").write_text("left over by a process that was killed")
    write_private(file, "né")
    assert (file.read_text(encoding="utf-8"), stat.S_IMODE(file.stat().st_mode)) == ("né", 0o600)
    assert list(tmp_path.iterdir()) == [file]


def test_a_key_has_reached_the_disk_before_anything_is_encrypted_with_it(tmp_path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (fsync(fd), synced.append(os.readlink(f"/proc/self/fd/{fd}"))))
    write_private(tmp_path / "store.key", "key")
    assert synced == [str(tmp_path / "store.partial"), str(tmp_path)]


def test_an_existing_file_is_not_opened(tmp_path):
    (tmp_path / "stack.tar").write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        create_private(tmp_path / "stack.tar")
