"""JPEGs that are broken, or seem to be."""

import io
import struct
import zipfile

import numpy as np

from shared.image_containers import MAX_PARTS, MAX_SCANS
from tests import images
from tests.broken_images.fates import (
    DAMAGED,
    FLAT,
    LANDSCAPE,
    PORTRAIT,
    TOO_LARGE,
    TOO_SMALL,
    TRUNCATED,
    UNDECODABLE,
    UNSUPPORTED,
)
from tests.broken_images.jpeg_parts import (
    APP0,
    APP1,
    APP2,
    BEGIN,
    DHT,
    DQT,
    DRI,
    END,
    FLAT_QUANTISATION,
    ONE_CODE_TABLES,
    SOF0,
    SOS,
    added,
    cut,
    edited,
    find,
    frame,
    halved,
    less,
    poked,
    progressive,
    scan,
    separated,
    split,
)
from tests.broken_images.profiles import chained_profile
from tests.images import encode, jpeg_segment, lesion

# No marker may be in it by chance.
NOISE = np.random.default_rng(4).integers(0, 255, 100_000, np.uint8).tobytes()


def broken_jpegs() -> dict[str, tuple[bytes, str]]:
    """Return the files by name, each with its fate."""
    data = encode(lesion(), "JPEG", quality=92)
    kinds = (_cut_short, _lengths, _tables, _frames, _scans, _beside_the_picture, _profiles)
    return {f"jpeg: {name}": entry for kind in kinds for name, entry in kind(data).items()}


def _cut_short(data: bytes) -> dict[str, tuple[bytes, str]]:
    coded = find(data, SOS) + 14
    in_scans = encode(lesion(), "JPEG", quality=92, progressive=True)
    return {
        "three bytes": (data[:3], DAMAGED),
        "cut in APP0": (cut(data, APP0, 9), DAMAGED),
        "cut in a quantisation table": (cut(data, DQT, 40), DAMAGED),
        "cut before its frame": (cut(data, SOF0, 0), DAMAGED),
        "cut in its frame": (cut(data, SOF0, 12), DAMAGED),
        "cut in a Huffman table": (cut(data, DHT, 25), DAMAGED),
        "cut in its scan's header": (cut(data, SOS, 9), DAMAGED),
        "cut before its coded pixels": (data[:coded], TRUNCATED),
        "cut in its coded pixels": (data[: len(data) // 2], TRUNCATED),
        "without its last byte": (data[:-1], TRUNCATED),
        "without its end marker": (data[:-2], TRUNCATED),
        "ended before its coded pixels": (data[:coded] + END, TRUNCATED),
        "ended early": (halved(data), TRUNCATED),
        "ended early, grey": (halved(encode(lesion().convert("L"), "JPEG")), TRUNCATED),
        "ended early, inks": (halved(encode(lesion().convert("CMYK"), "JPEG")), TRUNCATED),
        "ended early, with restarts": (halved(encode(lesion(), "JPEG", restart_marker_blocks=5)), TRUNCATED),
        "ended early, progressive": (halved(in_scans), TRUNCATED),
        "ended early, first scan": (in_scans[: find(in_scans, SOS) + 900].rstrip(b"\xff") + END, TRUNCATED),
        "ended early, then a trailer": (halved(data) + bytes(5000) + END, TRUNCATED),
        "its first kilobyte twice": (data[:1000] + data, DAMAGED),
    }


def _lengths(data: bytes) -> dict[str, tuple[bytes, str]]:
    return {
        "APP0 of length 0": (poked(data, APP0, 2, b"\0\0"), DAMAGED),
        "APP0 of length 1": (poked(data, APP0, 2, b"\0\1"), DAMAGED),
        "APP0 of length 65535": (poked(data, APP0, 2, b"\xff\xff"), DAMAGED),
        "frame of length 7": (poked(data, SOF0, 2, b"\0\7"), DAMAGED),
        "frame of length 8": (poked(data, SOF0, 2, b"\0\x08"), UNDECODABLE),
        "quantisation table of length 66": (poked(data, DQT, 2, b"\0\x42"), UNDECODABLE),
        "Huffman table of length 18": (poked(data, DHT, 2, b"\0\x12"), UNDECODABLE),
        "scan of length 2": (poked(data, SOS, 2, b"\0\2"), UNDECODABLE),
        "scan of length 65535": (poked(data, SOS, 2, b"\xff\xff"), DAMAGED),
        "restart interval of length 2": (added(data, jpeg_segment(DRI, b""), SOS), UNDECODABLE),
        "more empty segments than there may be": (added(data, jpeg_segment(0xEE, b"") * MAX_PARTS), DAMAGED),
        "65,533 bytes of comment": (added(data, jpeg_segment(0xFE, bytes(65_533))), LANDSCAPE),
    }


def _tables(data: bytes) -> dict[str, tuple[bytes, str]]:
    all_ones = bytes([0x00, 2]) + bytes(15) + b"\0\1"  # two codes of one bit: the all-ones code is reserved
    overflow = bytes([0x00, 3]) + bytes(15) + b"\0\1\2"
    too_many = b"\0" + bytes(15) + b"\xff" + bytes(300)
    too_wide = bytes([0x00, 1]) + bytes(15) + b"\x14"
    return {
        "no quantisation table": (less(data, DQT), UNDECODABLE),
        "no Huffman table": (less(data, DHT), LANDSCAPE),
        "quantisation by zeros": (edited(less(data, DQT), APP0, lambda old: old + _zeros()), FLAT),
        "quantisation table 15": (poked(data, DQT, 4, b"\x0f"), UNDECODABLE),
        "Huffman table 15": (poked(data, DHT, 4, b"\x0f"), UNDECODABLE),
        "more Huffman codes than bits": (added(data, jpeg_segment(DHT, overflow), SOS), UNDECODABLE),
        "a reserved Huffman code": (added(data, jpeg_segment(DHT, all_ones), SOS), UNDECODABLE),
        "257 Huffman codes": (added(data, jpeg_segment(DHT, too_many), SOS), UNDECODABLE),
        "a difference of 20 bits": (added(data, jpeg_segment(DHT, too_wide), SOS), UNDECODABLE),
    }


def _zeros() -> bytes:
    return jpeg_segment(DQT, bytes(65)) + jpeg_segment(DQT, b"\1" + bytes(64))


def _frames(data: bytes) -> dict[str, tuple[bytes, str]]:
    sound = next(part for kind, part in split(data) if kind == SOF0)

    def sized(width: int, height: int) -> bytes:
        return poked(data, SOF0, 5, struct.pack(">HH", height, width))

    return {
        "no frame": (less(data, SOF0), DAMAGED),
        "two frames": (added(data, sound, SOF0), DAMAGED),
        "a frame behind the scan": (data[:-2] + sound + END, DAMAGED),
        "a larger frame behind the scan": (data[:-2] + frame(SOF0, 60_000, 60_000) + END, DAMAGED),
        "a frame only behind the scan": (less(data, SOF0)[:-2] + sound + END, UNDECODABLE),
        "no width": (sized(0, 240), DAMAGED),
        "no height": (sized(320, 0), DAMAGED),
        "65535 x 65535": (sized(65_535, 65_535), TOO_LARGE),
        "a line over the limit": (sized(8192, 6145), TOO_LARGE),
        "63 wide": (sized(63, 240), TOO_SMALL),
        "a thread": (sized(65_500, 700), "intake image_too_narrow"),
        "twice as high as its pixels": (sized(320, 480), TRUNCATED),
        "no component": (poked(data, SOF0, 9, b"\0"), UNSUPPORTED),
        "2 components": (poked(data, SOF0, 9, b"\2"), UNSUPPORTED),
        "255 components": (poked(data, SOF0, 9, b"\xff"), UNSUPPORTED),
        "1 component of 3": (poked(data, SOF0, 9, b"\1"), UNDECODABLE),
        "4 components of 3": (poked(data, SOF0, 9, b"\4"), UNDECODABLE),
        "components of one name": (poked(data, SOF0, 13, b"\1"), UNDECODABLE),
        "sampled 0 times": (poked(data, SOF0, 11, b"\0"), UNDECODABLE),
        "sampled 15 times": (poked(data, SOF0, 11, b"\xff"), UNDECODABLE),
        "sampled 3 by 4 times": (poked(data, SOF0, 11, b"\x34"), UNDECODABLE),
        "12 bits": (poked(data, SOF0, 4, b"\x0c"), UNSUPPORTED),
        "lossless": (poked(data, SOF0, 1, b"\xc3"), UNSUPPORTED),
        "arithmetic": (poked(data, SOF0, 1, b"\xc9"), UNSUPPORTED),
        "arithmetic, progressive": (poked(data, SOF0, 1, b"\xca"), UNSUPPORTED),
        "hierarchical": (added(data, b"\xff\xde" + sound[2:], SOF0), UNSUPPORTED),
        "named progressive, coded baseline": (poked(data, SOF0, 1, b"\xc2"), UNDECODABLE),
        "named extended, coded baseline": (poked(data, SOF0, 1, b"\xc1"), LANDSCAPE),
    }


def _scans(data: bytes) -> dict[str, tuple[bytes, str]]:
    in_scans = encode(lesion(), "JPEG", quality=92, progressive=True)
    grey = encode(lesion().convert("L"), "JPEG")
    restarting = encode(lesion(), "JPEG", restart_marker_blocks=5)
    separate = separated(grey)
    head = BEGIN + FLAT_QUANTISATION + frame(0xC2, 320, 240) + ONE_CODE_TABLES
    return {
        "of no component": (poked(data, SOS, 4, b"\0"), UNDECODABLE),
        "of 5 components": (poked(data, SOS, 4, b"\5"), UNDECODABLE),
        "of a component that is not there": (poked(data, SOS, 5, b"\x09"), UNDECODABLE),
        "with a table that is not there": (poked(data, SOS, 6, b"\x33"), UNDECODABLE),
        "grey, scanned twice": (grey[:-2] + grey[find(grey, SOS) :], UNDECODABLE),
        "details alone": (head + scan([0], 1, 63) + bytes(999) + END, TRUNCATED),
        "details from 63 to 1": (head + scan([0], 63, 1) + bytes(999) + END, UNDECODABLE),
        "averages and details in one scan": (head + scan([0], 0, 63) + bytes(999) + END, UNDECODABLE),
        "shifted by 15 bits": (head + scan([0], 0, 0, 0x0F) + bytes(999) + END, UNDECODABLE),
        "refined before it was there": (head + scan([0], 0, 0, 0x10) + bytes(9999) + END, TRUNCATED),
        "progressive without averages": (edited(in_scans, SOS, lambda averages: b""), TRUNCATED),
        "a component that no scan holds": (_scanned_by_one(data), TRUNCATED),
        "progressive without a table": (less(in_scans, DHT), UNDECODABLE),
        "each component in a scan": (separate, LANDSCAPE),
        "each component in a scan, ended in the last": (separate[:-200] + END, TRUNCATED),
        "each component in a scan, the last missing": (separate[: separate.rindex(b"\xff\xda")] + END, TRUNCATED),
        "as many scans as there may be": (progressive(320, 240, MAX_SCANS), FLAT),
        "one scan more": (progressive(320, 240, MAX_SCANS + 1), DAMAGED),
        "thousands of scans": (progressive(320, 240, 2000), DAMAGED),
        "a small file that says 25 megapixels": (progressive(5792, 4344, 1), FLAT),
        "restarts without an interval": (less(restarting, DRI), LANDSCAPE),
        "an interval without restarts": (added(data, jpeg_segment(DRI, b"\0\1"), SOS), LANDSCAPE),
        "restarts out of order": (restarting.replace(b"\xff\xd1", b"\xff\xd6"), LANDSCAPE),
        "a restart in the middle": (data[: len(data) // 2] + b"\xff\xd3" + data[len(data) // 2 :], LANDSCAPE),
        "a marker in the middle": (data[: len(data) // 2] + b"\xff\x4a" + data[len(data) // 2 :], DAMAGED),
        "noise for pixels": (edited(data, SOS, lambda old: old[:14] + NOISE[: len(old) - 14]), LANDSCAPE),
    }


def _scanned_by_one(data: bytes) -> bytes:
    """Return the JPEG with only its first component named by its scan."""
    return edited(data, SOS, lambda old: scan([0], 0, 63) + old[14:])


def _beside_the_picture(data: bytes) -> dict[str, tuple[bytes, str]]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("invoice.exe", b"MZ")
    pictures = images.multi_picture_jpeg()
    index = pictures.index(b"MPF\0")
    return {
        "bytes before": (b"\r\n" + data, UNSUPPORTED),
        "bytes behind": (data + NOISE, LANDSCAPE),
        "a ZIP archive behind": (data + archive.getvalue(), LANDSCAPE),
        "a page in a comment": (added(data, jpeg_segment(0xFE, b"<html><script>alert(1)</script>")), LANDSCAPE),
        "bytes between segments": (added(data, NOISE, DHT), LANDSCAPE),
        "a million fill bytes": (added(data, b"\xff" * 1_000_000), LANDSCAPE),
        "begun twice": (data[:2] + data, LANDSCAPE),
        "a marker that is not defined": (added(data, b"\xff\x02"), DAMAGED),
        "JPEG-LS": (poked(data, SOF0, 1, b"\xf7"), DAMAGED),
        "a broken index of pictures": (pictures[:index] + bytes(range(80)) + pictures[index + 80 :], LANDSCAPE),
        "a second picture cut short": (pictures[:-900], LANDSCAPE),
        "orientation 0": (_exif(_directory((0x0112, 3, 1, 0))), LANDSCAPE),
        "orientation 9": (_exif(_directory((0x0112, 3, 1, 9 << 16))), LANDSCAPE),
        "orientation 65535": (_exif(_directory((0x0112, 3, 1, 0xFFFF << 16))), LANDSCAPE),
        "orientation 6, then 3": (_exif(_directory((0x0112, 3, 1, 6 << 16), (0x0112, 3, 1, 3 << 16))), PORTRAIT),
        "65,535 EXIF entries of which one is there": (_exif(b"MM\0*\0\0\0\x08\xff\xff" + bytes(12)), LANDSCAPE),
        "an EXIF directory that is its own next": (_exif(_directory((0x8769, 4, 1, 8), following=8)), LANDSCAPE),
        "an EXIF directory far outside": (_exif(b"MM\0*\xff\xff\xff\xff"), LANDSCAPE),
        "EXIF of no bytes": (_exif(b""), LANDSCAPE),
        "EXIF after EXIF": (added(_exif(_directory((0x0112, 3, 1, 6 << 16))), _block(b"II*\0"), APP1), LANDSCAPE),
    }


def _directory(*entries: tuple[int, int, int, int], following: int = 0) -> bytes:
    """Return a TIFF block of one directory. An entry: tag, type, count, value (a short one in its upper half)."""
    packed = b"".join(struct.pack(">HHII", *entry) for entry in entries)
    return b"MM\0*" + struct.pack(">IH", 8, len(entries)) + packed + struct.pack(">I", following)


def _block(tiff: bytes) -> bytes:
    return jpeg_segment(APP1, b"Exif\0\0" + tiff)


def _exif(tiff: bytes) -> bytes:
    return added(encode(lesion(), "JPEG"), _block(tiff))


def _profiles(data: bytes) -> dict[str, tuple[bytes, str]]:
    def profiled(*chunks: bytes, count: int) -> bytes:
        bodies = (b"ICC_PROFILE\0" + bytes([number, count]) + chunk for number, chunk in enumerate(chunks, 1))
        return added(data, b"".join(jpeg_segment(APP2, body) for body in bodies))

    profile, chained = images.swapped_profile(), chained_profile(20_000)
    thirds = [chained[begin : begin + 65_000] for begin in range(0, len(chained), 65_000)]
    return {
        "a profile of noise": (profiled(NOISE[:3000], count=1), LANDSCAPE),
        "a profile of no bytes": (profiled(b"", count=1), LANDSCAPE),
        "a profile cut short": (profiled(profile[:200], count=1), LANDSCAPE),
        "a profile that lacks a chunk": (profiled(profile[:300], count=2), LANDSCAPE),
        "a profile that counts 0 chunks": (profiled(profile, count=0), LANDSCAPE),
        "a profile of tags that lie outside": (profiled(profile[:132] + b"\xff" * 400, count=1), LANDSCAPE),
        "a profile that says 4 GB": (profiled(b"\xff" * 4 + profile[4:], count=1), LANDSCAPE),
        "255 chunks of noise": (profiled(*[NOISE[:6000]] * 255, count=255), LANDSCAPE),
        "a profile of 20,000 steps": (profiled(*thirds, count=len(thirds)), LANDSCAPE),
    }
