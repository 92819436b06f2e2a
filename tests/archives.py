"""Zip archives of photographs, good and bad, made in memory.

`archives_with_a_bad_file` and `bad_archives` list them by name, with the expected outcome.
"""

import functools
import io
import struct
import zipfile
import zlib
from collections.abc import Callable

from tests import images

GOOD = {"first.jpg": images.telling_jpeg(images.lesion()), "folder/second.png": images.encode(images.lesion(), "PNG")}
"""What every archive with a bad file also holds."""

LOCAL_HEADER, DIRECTORY_ENTRY, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
MEBIBYTE = 2**20


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    """Return an archive as an ordinary program packs it."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        archive.comment = comment
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return packed.getvalue()


def entry(
    name: bytes,
    data: bytes,
    *,
    flags: int = 0x800,
    method: int = 0,
    crc: int | None = None,
    packed: bytes | None = None,
    size: int | None = None,
    local_name: bytes | None = None,
    at: int | None = None,
) -> Callable[[int], tuple[bytes, bytes]]:
    """Return what makes, for a place in the archive, a file's header with its bytes, and its line in the directory."""
    packed = data if packed is None else packed
    facts = struct.pack(
        "<3H2H3L",
        20,
        flags,
        method,
        0,
        0x21,
        zlib.crc32(data) if crc is None else crc,
        len(packed),
        len(data) if size is None else size,
    )

    def place(offset: int) -> tuple[bytes, bytes]:
        own_name = name if local_name is None else local_name
        local = LOCAL_HEADER + facts + struct.pack("<2H", len(own_name), 0) + own_name + packed
        line = DIRECTORY_ENTRY + struct.pack("<H", 20) + facts
        line += struct.pack("<5H2L", len(name), 0, 0, 0, 0, 0, offset if at is None else at) + name
        return (b"" if at is not None else local), line

    return place


def assembled(*entries: Callable[[int], tuple[bytes, bytes]], end: dict | None = None, between: bytes = b"") -> bytes:
    """Return an archive of these entries and the good ones; `end` forges the record at its end."""
    body, directory = b"", b""
    for make in (*(entry(name.encode(), data) for name, data in GOOD.items()), *entries):
        local, line = make(len(body))
        body, directory = body + local, directory + line
    facts = {"entries": len(entries) + len(GOOD), "size": len(directory), "offset": len(body)} | (end or {})
    counts = struct.pack("<4H2LH", 0, 0, facts["entries"], facts["entries"], facts["size"], facts["offset"], 0)
    return body + directory + between + END + counts


def deflated(data: bytes) -> bytes:
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return deflate.compress(data) + deflate.flush()


@functools.cache
def zeros(size: int) -> bytes:
    """Return so many zeros, deflated."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    return b"".join(deflate.compress(bytes(MEBIBYTE)) for _ in range(size // MEBIBYTE)) + deflate.flush()


JPEG = GOOD["first.jpg"]


@functools.cache
def archives_with_a_bad_file() -> dict[str, tuple[bytes, list[str]]]:
    """Return archives that hold GOOD and more, with the error codes of the rest, in order."""
    nested, packed = zipped(GOOD), deflated(JPEG)
    damaged = packed[:9000] + bytes(64) + packed[9064:]
    names = {
        "parent": b"../a.jpg",
        "parent further in": b"a/../../b.jpg",
        "parent by a backslash": b"a\\..\\..\\b.jpg",
        "root": b"/etc/a.jpg",
        "drive": b"C:\\a.jpg",
        "drive without a slash": b"C:a.jpg",
        "share": b"\\\\server\\share\\a.jpg",
    }
    unsafe = {f"name: {what}": (assembled(entry(name, JPEG)), ["archive_name_unsafe"]) for what, name in names.items()}
    unreadable = {
        f"name: {what}": (assembled(entry(name, JPEG, flags=0)), ["name_unreadable"])
        for what, name in {
            "no UTF-8": b"L\xe4sion.jpg",
            "line break": b"a\r\nb.jpg",
            "NUL": b"a.jpg\0.exe",
            "escape": b"\x1b[2Ja.jpg",
        }.items()
    }
    bomb = {"method": 8, "packed": zeros(64 * MEBIBYTE)}
    return unsafe | unreadable | {
        "name: twice": (assembled(entry(b"a.jpg", b"x"), entry(b"a.jpg", JPEG)),
                        ["image_type_unsupported", "archive_name_repeated"]),
        "text": (assembled(entry(b"readme.txt", b"Dear doctor")), ["image_type_unsupported"]),
        "archive in the archive": (assembled(entry(b"more.zip", nested)), ["image_type_unsupported"]),
        "nothing in the file": (assembled(entry(b"a.jpg", b"")), ["image_empty"]),
        "link": (assembled(entry(b"a.jpg", b"/etc/passwd")), ["image_type_unsupported"]),
        "encrypted": (assembled(entry(b"a.jpg", JPEG, flags=0x801)), ["archive_entry_encrypted"]),
        "strongly encrypted": (assembled(entry(b"a.jpg", JPEG, flags=0x841)), ["archive_entry_encrypted"]),
        "patched": (assembled(entry(b"a.jpg", JPEG, flags=0x820)), ["archive_entry_unsupported"]),
        "bzip2": (assembled(entry(b"a.jpg", JPEG, method=12)), ["archive_entry_unsupported"]),
        "unknown compression": (assembled(entry(b"a.jpg", JPEG, method=99)), ["archive_entry_unsupported"]),
        "wrong CRC": (assembled(entry(b"a.jpg", JPEG, crc=1)), ["archive_entry_damaged"]),
        "broken deflate": (assembled(entry(b"a.jpg", JPEG, method=8, packed=damaged)), ["archive_entry_damaged"]),
        "cut deflate": (assembled(entry(b"a.jpg", JPEG, method=8, packed=packed[:99])), ["archive_entry_damaged"]),
        "another name inside": (assembled(entry(b"a.jpg", JPEG, local_name=b"b.jpg")), ["archive_entry_damaged"]),
        "bomb": (assembled(entry(b"a.jpg", b"", size=64 * MEBIBYTE, **bomb)), ["upload_too_large"]),
        "bomb that looks small": (assembled(entry(b"a.jpg", b"", size=1000, **bomb)), ["archive_entry_damaged"]),
        "bomb that looks endless": (assembled(entry(b"a.jpg", b"", size=2**32 - 2, **bomb)), ["upload_too_large"]),
        "bad and worse": (assembled(entry(b"../a.jpg", JPEG), entry(b"b.jpg", b""), entry(b"c.jpg", JPEG, crc=1)),
                          ["archive_name_unsafe", "image_empty", "archive_entry_damaged"]),
    }  # fmt: skip


@functools.cache
def bad_archives() -> dict[str, tuple[bytes, int, str]]:
    """Return archives that are refused as a whole, with their statuses and error codes."""
    sound, many = zipped(GOOD), {f"{n}.jpg": b"" for n in range(10_000)}
    zip64 = b"PK\x06\x06" + bytes(52) + b"PK\x06\x07" + bytes(16)
    packed = zeros(8 * MEBIBYTE)
    large = [entry(b"%d.jpg" % n, b"", method=8, packed=packed, size=20 * MEBIBYTE) for n in range(30)]
    return {
        "nothing": (b"", 400, "archive_unreadable"),
        "no zip": (JPEG, 400, "archive_unreadable"),
        "first half": (sound[: len(sound) // 2], 400, "archive_unreadable"),
        "without its end": (sound[:-1], 400, "archive_unreadable"),
        "end alone, cut": (sound[-22:-4], 400, "archive_unreadable"),
        "directory outside": (assembled(end={"size": 2**16 + 999}), 400, "archive_unreadable"),
        "directory of nonsense": (assembled(end={"size": 60}), 400, "archive_unreadable"),
        "name that lies about being UTF-8": (assembled(entry(b"L\xe4sion.jpg", JPEG)), 400, "archive_unreadable"),
        "no files": (zipped({}), 400, "archive_empty"),
        "folders alone": (zipped({"a/": b"", "a/b/": b""}), 400, "archive_empty"),
        "hidden files alone": (zipped({".DS_Store": b"x", "__MACOSX/._a.jpg": b"x"}), 400, "archive_empty"),
        "zip64": (assembled(between=zip64), 400, "archive_unsupported"),
        "entries on top of each other": (assembled(entry(b"a.jpg", JPEG, at=0)), 400, "archive_overlapping"),
        "entry in another's bytes": (assembled(entry(b"a.jpg", b"x", at=5000)), 400, "archive_overlapping"),
        "the same entry often": (assembled(*[entry(b"first.jpg", JPEG, at=0)] * 400), 400, "archive_overlapping"),
        "entry beyond the end": (assembled(entry(b"a.jpg", JPEG, at=2**31)), 400, "archive_overlapping"),
        "entry in the directory": (assembled(end={"offset": 0}), 400, "archive_overlapping"),
        "10,000 files": (zipped(many, zipfile.ZIP_STORED), 413, "submission_too_large"),
        "endless directory": (assembled(end={"size": 2**31}), 413, "submission_too_large"),
        "600 MiB in all": (assembled(*large), 413, "submission_too_large"),
    }
