"""The backup file: what is damaged, foreign or not for this version is refused before anything is written."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from deploy import backup
from deploy.backup_file import BackupError, object_name, open_backup, write_backup

MEMBERS = {
    object_name("clinic/case/photograph.jpg"): bytes(range(256)) * 20,
    object_name(f"{'clinic' * 8}/{'case' * 8}/{'0' * 64}.png"): b"an overlay",
    "dermqueue.sqlite3": b"rows" * 1000,
    "keys.json": b"{}",
}


@pytest.fixture
def file(tmp_path) -> Path:
    return tmp_path / "stack.tar"


@pytest.fixture
def whole(file) -> Path:
    """A backup with nothing wrong."""
    with write_backup(file) as writer:
        for name, data in MEMBERS.items():
            writer.add(name, io.BytesIO(data))
        writer.finish("0001", cases=1, objects=2)
    return file


def forge(file: Path, members: list[tuple[str | tarfile.TarInfo, bytes]], **manifest) -> None:
    """Replace a backup by one of these members, with a manifest that matches them except for the given fields."""
    names = [getattr(name, "name", name) for name, _ in members]
    digests = {name: hashlib.sha256(data).hexdigest() for name, (_, data) in zip(names, members, strict=True)}
    facts = {"format": 1, "version": "0", "migration": "0001", "cases": 0, "objects": 0, "sha256": digests}
    with tarfile.open(file, "w") as tar:
        for name, data in [*members, ("manifest.json", json.dumps(facts | manifest).encode())]:
            member = tarfile.TarInfo(name) if isinstance(name, str) else name
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def assert_refused(file: Path, tmp_path: Path, code: str) -> None:
    """Restore must refuse the file and have written nothing."""
    target = tmp_path / "restored"
    with pytest.raises(BackupError) as caught:
        backup.restore(file, target, lambda *event: None, lambda items, what: items)
    assert caught.value.code == code
    assert not target.exists()


def test_what_was_written_is_read_back(whole):
    with open_backup(whole, lambda items, what: items) as opened:
        assert {name: opened.read(name) for name in MEMBERS} == MEMBERS
        assert [opened.holds(name) for name in ("keys.json", "objects/other")] == [True, False]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9999])
def test_a_truncated_backup_is_refused(whole, tmp_path, share):
    with tarfile.open(whole) as tar:
        last = tar.getmembers()[-1]
    whole.write_bytes(whole.read_bytes()[: int(share * (last.offset_data + last.size))])
    assert_refused(whole, tmp_path, "backup_damaged")


@pytest.mark.parametrize("name", ["dermqueue.sqlite3", "keys.json", "manifest.json", "objects/"])
@pytest.mark.parametrize("part", ["header", "content"])
def test_a_backup_with_one_bit_changed_is_refused(whole, tmp_path, name, part):
    with tarfile.open(whole) as tar:
        member = next(member for member in tar if member.name.startswith(name))
    data = bytearray(whole.read_bytes())
    data[member.offset_data + member.size // 2 if part == "content" else member.offset + 3] ^= 1
    whole.write_bytes(data)
    assert_refused(whole, tmp_path, "backup_damaged")


@pytest.mark.parametrize("data", [b"a photograph, not a tar", b"\x1f\x8b\x08\0 compressed", bytes(10_240)])
def test_what_is_not_a_backup_is_refused(file, tmp_path, data):
    file.write_bytes(data)
    assert_refused(file, tmp_path, "backup_damaged")


@pytest.mark.parametrize("text", [b"", b"[]", b'{"format": "1"}', b'{"format": 1}', None])
def test_a_tar_with_another_manifest_is_refused(file, tmp_path, text):
    manifest = tarfile.TarInfo("manifest.json")
    manifest.size, manifest.type = (0, tarfile.DIRTYPE) if text is None else (len(text), tarfile.REGTYPE)
    with tarfile.open(file, "w") as tar:
        tar.addfile(manifest, io.BytesIO(text or b""))
    assert_refused(file, tmp_path, "backup_damaged")


@pytest.mark.parametrize("manifest", [{"format": 2, "sha256": "other"}, {"migration": "9999"}])
def test_a_backup_of_a_newer_version_is_refused(file, tmp_path, manifest):
    forge(file, [("dermqueue.sqlite3", b""), ("keys.json", b"{}")], **manifest)
    assert_refused(file, tmp_path, "backup_newer")


PATHS = ["../evil", "/etc/evil", "objects/../../evil", "objects//evil", "objects/", "seaweed.key"]
REPEATED = ["keys.json", "manifest.json"]
KINDS = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]


def special(kind: bytes) -> tarfile.TarInfo:
    member = tarfile.TarInfo("objects/a/b/c.jpg")
    member.type, member.linkname = kind, "../../../etc/passwd"
    return member


@pytest.mark.parametrize(
    "foreign", [*PATHS, *REPEATED, *map(special, KINDS)], ids=lambda foreign: getattr(foreign, "type", foreign)
)
def test_a_backup_with_a_foreign_member_is_refused(file, tmp_path, foreign):
    forge(file, [("dermqueue.sqlite3", b""), ("keys.json", b""), (foreign, b"")])
    assert_refused(file, tmp_path, "backup_damaged")
    assert not list(tmp_path.rglob("evil"))
