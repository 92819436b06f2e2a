"""A disk is waited for, and one that refuses is reported as an error of the store."""

import errno

import pytest

from shared import durability
from shared.durability import sync_disk_of
from shared.errors import Unavailable


def test_a_folders_disk_is_synced(tmp_path, monkeypatch):
    synced = []
    sync = durability._sync
    monkeypatch.setattr(durability, "_sync", lambda descriptor: synced.append(sync(descriptor)))
    sync_disk_of(tmp_path)
    assert synced == [0]


@pytest.mark.parametrize("trouble", ["no folder", "input or output error"])
def test_a_disk_that_refuses_is_reported_as_an_unavailable_store(tmp_path, monkeypatch, trouble):
    folder = tmp_path / "gone" if trouble == "no folder" else tmp_path
    monkeypatch.setattr(durability, "_sync", lambda descriptor: -errno.EIO)
    with pytest.raises(Unavailable) as caught:
        sync_disk_of(folder)
    assert caught.value.code == "storage_unavailable"
    assert str(tmp_path) not in caught.value.detail
