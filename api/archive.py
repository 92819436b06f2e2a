"""Reads photographs out of a zip without writing any to the file system.

Python's zipfile does the reading. It trusts an archive's directory, however large, and accepts overlapping entries, so
the archive is inspected before it is opened. Only the directory is held in memory.

Format: PKWARE's APPNOTE 6.3.3. What photographs do not need is refused: zip64, encryption, compression methods other
than deflate.
"""

import io
import struct
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import PurePosixPath, PureWindowsPath
from typing import IO
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from api.intake import SentFile, check_size
from shared.errors import RequestInvalid

# Signature, disk, directory's disk, entries here, entries, directory's bytes, its offset, the comment's bytes.
_END = struct.Struct("<4s4H2LH")
_END_SIGNATURE, _ZIP64_SIGNATURE = b"PK\x05\x06", b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_LONGEST_END_BYTES = _ZIP64_LOCATOR_BYTES + _END.size + 0xFFFF
_LOCAL_HEADER_BYTES = 30
_MAX_DIRECTORY_BYTES = 2**20
"""Four times the directory of 500 photographs with names of 200 characters, each with macOS's shadow entry."""

_ENCRYPTED_FLAG, _UTF_8_FLAG = 0x1, 0x800

# All that zipfile raises on bad archives, according to its source; 200,000 damaged ones raised nothing else.
_DAMAGES = (BadZipFile, EOFError, UnicodeDecodeError, struct.error, zlib.error)


def list_photographs(file: IO[bytes], max_photograph_bytes: int, max_bytes: int) -> Sequence[SentFile]:
    """Return the files in a zip, without folders, hidden files and macOS's additions.

    max_bytes: limit on their total uncompressed size.

    Raises:
        RequestInvalid: `archive_unreadable`; `archive_empty`; `archive_unsupported` (zip64); `archive_overlapping`;
            `submission_too_large`.
    """
    directory_start = _find_directory(file)
    try:
        archive = ZipFile(file)
    except (*_DAMAGES, NotImplementedError) as error:
        raise _unreadable() from error
    _check_overlaps(archive.infolist(), directory_start)
    shown = [entry for entry in archive.infolist() if not _is_hidden(entry)]
    if not shown:
        raise RequestInvalid("archive_empty", "The archive contains no photograph.")
    if sum(min(entry.file_size, max_photograph_bytes) for entry in shown) > max_bytes:
        raise RequestInvalid(
            "submission_too_large",
            f"The files in the archive exceed {max_bytes / 2**20:g} MiB uncompressed. Split it and send the parts.",
        )
    seen: set[str] = set()
    return [_to_item(archive, entry, seen, max_photograph_bytes) for entry in shown]


def _find_directory(file: IO[bytes]) -> int:
    """Return where the directory begins. Refuse a large one, since zipfile reads it as a whole."""
    size = file.seek(0, io.SEEK_END)
    tail_start = file.seek(max(0, size - _LONGEST_END_BYTES))
    tail = file.read()
    end = tail.rfind(_END_SIGNATURE)
    if end < 0 or len(tail) - end < _END.size:
        raise _unreadable()
    if tail[:end][-_ZIP64_LOCATOR_BYTES:].startswith(_ZIP64_SIGNATURE):
        raise RequestInvalid("archive_unsupported", "Zip64 archives are not supported. Send an ordinary zip.")
    directory_bytes = _END.unpack_from(tail, end)[5]
    if directory_bytes > _MAX_DIRECTORY_BYTES:
        raise RequestInvalid("submission_too_large", "The archive contains too many files. Split it.")
    return tail_start + end - directory_bytes


def _check_overlaps(entries: Sequence[ZipInfo], directory_start: int) -> None:
    """Refuse an archive whose entries share bytes: a small one could expand to any size (Fifield 2019)."""
    following = directory_start
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        if not 0 <= entry.header_offset <= following - _LOCAL_HEADER_BYTES - entry.compress_size:
            raise RequestInvalid("archive_overlapping", "Files in the archive overlap. Create the archive again.")
        following = entry.header_offset


def _is_hidden(entry: ZipInfo) -> bool:
    parts = PurePosixPath(entry.orig_filename).parts
    is_folder = entry.orig_filename.endswith("/")
    return is_folder or "__MACOSX" in parts or any(part.startswith(".") and part != ".." for part in parts)


def _to_item(archive: ZipFile, entry: ZipInfo, seen: set[str], limit_bytes: int) -> SentFile:
    name = _read_name(entry)
    refusal = _find_refusal(entry, name, seen)
    seen.add(name)
    return SentFile(name, partial(_refuse, refusal) if refusal else partial(_read_entry, archive, entry, limit_bytes))


def _read_name(entry: ZipInfo) -> str:
    """Decode an entry's name as UTF-8, which macOS writes without setting the flag; invalid bytes become U+FFFD."""
    if entry.flag_bits & _UTF_8_FLAG:
        return entry.orig_filename
    return entry.orig_filename.encode("cp437").decode(errors="replace")


def _find_refusal(entry: ZipInfo, name: str, seen: set[str]) -> RequestInvalid | None:
    path = PureWindowsPath(name)  # it knows drives and both kinds of slashes
    if path.anchor or ".." in path.parts:
        return RequestInvalid("archive_name_unsafe", "The file's path leads out of the archive. Rename it.")
    if name in seen:
        return RequestInvalid("archive_name_repeated", "Another file in this archive has the same name. Rename one.")
    if entry.flag_bits & _ENCRYPTED_FLAG:
        return RequestInvalid(
            "archive_entry_encrypted", "The file is encrypted. Create the archive without a password."
        )
    if entry.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        return _entry_unsupported()
    return None


def _refuse(refusal: RequestInvalid) -> bytes:
    raise refusal


def _read_entry(archive: ZipFile, entry: ZipInfo, limit_bytes: int) -> bytes:
    """Return an entry's bytes. zipfile inflates no more of them than the directory states, and checks their CRC."""
    check_size(entry.file_size, limit_bytes)
    try:
        with archive.open(entry) as content:
            return content.read(entry.file_size + 1)
    except _DAMAGES as error:
        raise RequestInvalid(
            "archive_entry_damaged", "The file is damaged in the archive. Create the archive again."
        ) from error
    except NotImplementedError as error:
        raise _entry_unsupported() from error


def _unreadable() -> RequestInvalid:
    return RequestInvalid("archive_unreadable", "The file in the field 'archive' is not a zip, or is damaged.")


def _entry_unsupported() -> RequestInvalid:
    return RequestInvalid(
        "archive_entry_unsupported", "The file is packed in a way that is not supported. Create an ordinary zip."
    )
