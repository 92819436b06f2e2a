"""Photographs out of a zip: what is in it is found, and whatever is wrong with it stays without effect."""

import io
import tracemalloc

import pytest

from api.archive import list_photographs
from shared.errors import RequestInvalid
from tests import archives
from tests.api.calls import read_problem
from tests.api.ways_in import codes, send_archive
from tests.archives import GOOD, assembled, entry, zipped

LIMIT_BYTES = 25 * archives.MEBIBYTE


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", archives.archives_with_a_bad_file())
def test_a_bad_file_is_told_why_not_and_nothing_but_the_good_ones_comes_of_it(clinic, rows, stored_keys, rung, name):
    archive, expected = archives.archives_with_a_bad_file()[name]
    answer = send_archive(clinic, archive)
    assert codes(answer) == [None, None, *expected]
    assert sorted(row.reference for row in rows("cases")) == sorted(GOOD)
    assert len(stored_keys(clinic)) == len(rows("audit_events")) == len(GOOD)
    assert 1 <= rung() <= len(GOOD)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
@pytest.mark.parametrize("name", archives.bad_archives())
def test_a_bad_archive_is_refused_as_a_whole_and_changes_nothing(clinic, rows, stored_keys, rung, name):
    archive, status, code = archives.bad_archives()[name]
    before = rows()
    assert read_problem(send_archive(clinic, archive), status)["code"] == code
    assert (rows(), stored_keys(clinic), rung()) == (before, [], 0)


def listed(archive: bytes) -> list[tuple[str, bytes]]:
    return [(item.name, item.read()) for item in list_photographs(io.BytesIO(archive), LIMIT_BYTES, 20 * LIMIT_BYTES)]


def test_folders_hidden_files_and_what_macos_adds_are_left_out():
    files = {"a.jpg": b"1", "folder/": b"", "folder/b.jpg": b"2"}
    hidden = {".DS_Store": b"x", "folder/._b.jpg": b"x", "__MACOSX/b.jpg": b"x", ".git/c.jpg": b"x"}
    assert listed(zipped(files | hidden)) == [("a.jpg", b"1"), ("folder/b.jpg", b"2")]


def test_the_same_name_in_two_folders_is_no_repetition():
    files = {"left/a.jpg": b"1", "right/a.jpg": b"2", "a.jpg": b"3"}
    assert listed(zipped(files)) == list(files.items())


@pytest.mark.parametrize("flags", [0x800, 0], ids=["as zip demands", "as macOS does"])
def test_a_name_in_utf_8_stays_as_it_is(flags):
    archive = assembled(entry("Läsion № 7 — 左.jpg".encode(), b"1", flags=flags))
    assert listed(archive)[-1] == ("Läsion № 7 — 左.jpg", b"1")


@pytest.mark.parametrize(
    "archive",
    [
        zipped(GOOD, comment=b"Clinic North, Tuesday"),
        zipped(GOOD, comment=bytes(65_535)),
        b"#!/bin/sh\n" + zipped(GOOD),
        assembled(),
    ],
    ids=["comment", "longest comment", "behind a program", "stored"],
)
def test_an_unusual_archive_is_read_all_the_same(archive):
    assert listed(archive) == list(GOOD.items())


def test_a_comment_cannot_name_another_directory():
    end = zipped({"evil.jpg": b"x"})
    with pytest.raises(RequestInvalid, match="archive_unreadable"):
        listed(zipped(GOOD, comment=end[-30:-2]))


@pytest.mark.parametrize("name", ["bomb that looks small", "10,000 files", "endless directory", "600 MiB in all"])
def test_a_bomb_takes_hardly_any_memory(name):
    archive = (archives.archives_with_a_bad_file() | archives.bad_archives())[name][0]
    tracemalloc.start()
    try:
        for item in list_photographs(io.BytesIO(archive), LIMIT_BYTES, 20 * LIMIT_BYTES):
            item.read()
    except RequestInvalid:
        pass
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < len(archive) + 16 * archives.MEBIBYTE
