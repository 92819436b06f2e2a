"""Finds the parts of a JPEG, PNG or WebP file by following their lengths, without decoding a pixel.

Both sides use it: the API reads a photograph's size and leaves out the parts that may name a patient, the worker reads
the orientation. An image library could do this too, but it also parses the metadata (EXIF, XMP, text), and warns or
fails because of it: bad metadata would have a sound photograph refused.

A walk raises ImageRejected `image_header_damaged` where a file cannot be walked, or ends before its picture begins. In
a file that ends later, the last part is cut short.

Formats: ITU-T T.81 annex B (JPEG), the W3C's PNG specification (third edition), RFC 9649 (WebP), CIPA DC-008 (EXIF).
"""

import functools
import re
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from shared.errors import ImageRejected

JPEG, PNG, WEBP = "image/jpeg", "image/png", "image/webp"
_NAMES = {JPEG: "JPEG", PNG: "PNG", WEBP: "WebP"}
SIGNATURES = {
    JPEG: re.compile(rb"\xff\xd8\xff"),
    PNG: re.compile(rb"\x89PNG\r\n\x1a\n"),
    WEBP: re.compile(rb"RIFF.{4}WEBP", re.DOTALL),
}
PNG_SIGNATURE_BYTES = 8
WEBP_SIGNATURE_BYTES = 12

# A PNG of 25 MiB in chunks of 1 KiB has fewer. With empty parts, it could have millions and take 10 s to walk.
MAX_PARTS = 30_000
# libjpeg writes 10 scans for a progressive photograph, 18 for a CMYK one. A scan of 100 bytes can cost 45 ms at 50
# megapixels: without a limit, one upload would keep a worker busy for hours.
MAX_SCANS = 24

SOI, EOI, SOS, APP1 = b"\xd8", b"\xd9", b"\xda", b"\xe1"
# C4, C8 and CC are tables and an extension; all others open a frame, and DE opens a hierarchical file's first.
_JPEG_FRAME_HEADERS = frozenset(bytes([code]) for code in range(0xC0, 0xD0)) - {b"\xc4", b"\xc8", b"\xcc"} | {b"\xde"}
# Baseline, extended sequential and progressive, with Huffman coding: what cameras write and browsers show.
JPEG_PROGRESSIVE = b"\xc2"
JPEG_CODINGS = frozenset({b"\xc0", b"\xc1", JPEG_PROGRESSIVE})
_JPEG_COMPONENTS = frozenset({1, 3, 4})  # grey, colour, CMYK
# Escaped FF (00), TEM (01), restart markers, a stray SOI and fill bytes carry no segment: they are skipped.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
# Reserved by the standard, so that no length after them can be trusted; decoders give up on them as well.
_JPEG_UNDEFINED = re.compile(rb"[\x02-\xbf\xf0-\xfd]")
_PNG_KIND = re.compile(rb"[A-Za-z]{4}")
WEBP_PICTURE = frozenset({b"VP8 ", b"VP8L"})
_WEBP_ANIMATION_FLAG = 0x02

_EXIF_SIGNATURE = b"Exif\0\0"
_EXIF_ORIENTATION = 0x0112


class Part(NamedTuple):
    """One JPEG segment (a scan's includes its coded pixels), PNG chunk or WebP chunk.

    kind: the marker's second byte (JPEG) or the four letters. `data[start:end]` is all of it, `data[body:body_end]` its
    contents without length, checksum, padding and coded pixels.
    """

    kind: bytes
    start: int
    body: int
    body_end: int
    end: int


def structure_damaged(media_type: str) -> ImageRejected:
    """Return the refusal of a file that begins like `media_type` but cannot be read any further."""
    return ImageRejected(
        "image_header_damaged",
        f"This file begins like a {_NAMES[media_type]} photograph but its structure is damaged, as after a "
        "broken transfer. Send the original file again, or take the photograph again.",
    )


_Walk = Callable[..., Iterator[Part]]


def _bounded(media_type: str) -> Callable[[_Walk], _Walk]:
    """Make a walk give up a file of more than MAX_PARTS parts."""

    def decorate(walk: _Walk) -> _Walk:
        @functools.wraps(walk)
        def bounded(data: bytes, **options) -> Iterator[Part]:
            for count, part in enumerate(walk(data, **options)):
                if count == MAX_PARTS:
                    raise structure_damaged(media_type)
                yield part

        return bounded

    return decorate


@_bounded(JPEG)
def jpeg_parts(data: bytes, head_alone: bool = False) -> Iterator[Part]:
    """Yield the segments after SOI up to the first EOI; stray bytes between them belong to none.

    head_alone: let the first scan extend to the end of the file. Finding its own end takes 2 ms for 5 MB.
    """
    position, scans = 2, 0
    while found := _JPEG_MARKER.search(data, position):
        kind, start, body = found[0][1:], found.start(), found.end() + 2
        if kind == EOI:
            break
        length = int.from_bytes(data[body - 2 : body])  # counts its own two bytes
        body_end = position = min(body - 2 + length, len(data))
        cut_short = max(body, body - 2 + length) > len(data)
        if _JPEG_UNDEFINED.match(kind) or (not scans if cut_short else length < 2):
            raise structure_damaged(JPEG)
        if kind == SOS and head_alone:
            yield Part(kind, start, body, body_end, len(data))
            return
        if kind == SOS:
            scans += 1
            if scans > MAX_SCANS:
                raise structure_damaged(JPEG)
            following = _JPEG_MARKER.search(data, body_end)
            position = following.start() if following else len(data)
        yield Part(kind, start, body, body_end, position)
    if not scans:
        raise structure_damaged(JPEG)
    if found:
        yield Part(EOI, found.start(), found.end(), found.end(), found.end())


@_bounded(PNG)
def png_parts(data: bytes) -> Iterator[Part]:
    """Yield the chunks up to IEND."""
    start, picture_seen = PNG_SIGNATURE_BYTES, False
    while start + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, start)
        end = start + 12 + length
        picture_seen |= kind == b"IDAT"
        if not _PNG_KIND.fullmatch(kind) or (end > len(data) and not picture_seen):
            raise structure_damaged(PNG)
        yield Part(kind, start, start + 8, min(end - 4, len(data)), min(end, len(data)))
        start = end
        if kind == b"IEND":
            break
    if not picture_seen:
        raise structure_damaged(PNG)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return a chunk with its length and checksum (PNG 3, section 5.3)."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@_bounded(WEBP)
def webp_parts(data: bytes) -> Iterator[Part]:
    """Yield the chunks within the length that the RIFF header states; an animation has no still picture and raises."""
    limit = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    start, picture_seen = WEBP_SIGNATURE_BYTES, False
    while start + 8 <= limit:
        kind, length = struct.unpack_from("<4sI", data, start)
        body_end = start + 8 + length
        picture_seen |= kind in WEBP_PICTURE
        if body_end > limit and not picture_seen:
            raise structure_damaged(WEBP)
        end = min(body_end + length % 2, limit)  # chunks begin at even offsets
        yield Part(kind, start, start + 8, min(body_end, limit), end)
        start = end
    if not picture_seen:
        raise structure_damaged(WEBP)


def read_size(data: bytes, media_type: str) -> tuple[int, int]:
    """Return (width, height) in pixels as stored, before the orientation is applied.

    Raises:
        ImageRejected: `image_header_damaged`; `image_type_unsupported`: a JPEG of a rare kind.
    """
    size = {JPEG: _jpeg_size, PNG: _png_size, WEBP: _webp_size}[media_type](data)
    if size is None or min(size) < 1:
        raise structure_damaged(media_type)
    return size


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    frames = [part for part in jpeg_parts(data) if part.kind in _JPEG_FRAME_HEADERS]
    if any(part.kind not in JPEG_CODINGS for part in frames):
        raise _coding_unsupported()
    # With two frame headers, some readers would believe the first and others the last.
    if len(frames) != 1 or frames[0].body_end - frames[0].body < 6:
        return None
    bits, height, width, components = struct.unpack_from(">BHHB", data, frames[0].body)
    if bits != 8 or components not in _JPEG_COMPONENTS:
        raise _coding_unsupported()
    return width, height


def _coding_unsupported() -> ImageRejected:
    return ImageRejected(
        "image_type_unsupported",
        "This is a rare kind of JPEG (lossless, hierarchical, arithmetic-coded, not 8 bits, or not 1, 3 or 4 channels) "
        "that few programs can read. Save it as an ordinary JPEG and send it again.",
    )


def _png_size(data: bytes) -> tuple[int, int] | None:
    header = data[12:33]  # "IHDR", 13 bytes, checksum
    if len(header) < 21 or header[:4] != b"IHDR" or zlib.crc32(header[:17]) != int.from_bytes(header[17:]):
        return None
    width, height = struct.unpack_from(">II", header, 4)
    return width, height


def _webp_size(data: bytes) -> tuple[int, int] | None:
    first = next(webp_parts(data))
    body = data[first.body : first.body_end]
    if first.kind == b"VP8L" and body[:1] == b"\x2f" and len(body) >= 5:
        bits = int.from_bytes(body[1:5], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(body) < 10:
        return None
    if first.kind == b"VP8 " and body[3:6] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", body, 6)
        return width & 0x3FFF, height & 0x3FFF
    if first.kind == b"VP8X":
        return int.from_bytes(body[4:7], "little") + 1, int.from_bytes(body[7:10], "little") + 1
    return None


def is_animated(data: bytes, media_type: str) -> bool:
    """Tell whether the file declares itself an animation: a PNG by an acTL chunk, a WebP by a flag in its header.

    A JPEG of several pictures (MPO) does not; its first picture counts.
    """
    if media_type == PNG:
        return any(part.kind == b"acTL" for part in png_parts(data))
    return media_type == WEBP and data[12:16] == b"VP8X" and bool(data[20] & _WEBP_ANIMATION_FLAG)


def is_decoded_whole(data: bytes, media_type: str) -> bool:
    """Tell whether it must be decoded as a whole: a WebP, or a JPEG that is progressive or has several scans."""
    return is_in_scans(jpeg_parts(data)) if media_type == JPEG else media_type == WEBP


def is_in_scans(parts: Iterable[Part]) -> bool:
    """Tell from its parts whether a JPEG is progressive or has several scans."""
    kinds = [part.kind for part in parts]
    return JPEG_PROGRESSIVE in kinds or kinds.count(SOS) > 1


def read_orientation(data: bytes, media_type: str) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) where there is none or it cannot be read.

    XMP and textual profiles may state an orientation, too; browsers ignore it, and so do we.
    """
    return _exif_orientation({JPEG: _jpeg_exif, PNG: _png_exif, WEBP: _webp_exif}[media_type](data))


def _jpeg_exif(data: bytes) -> bytes:
    for part in jpeg_parts(data, head_alone=True):
        if part.kind == SOS:
            break
        if part.kind == APP1 and data.startswith(_EXIF_SIGNATURE, part.body):
            return data[part.body : part.body_end]
    return b""


def _png_exif(data: bytes) -> bytes:
    return next((data[part.body : part.body_end] for part in png_parts(data) if part.kind == b"eXIf"), b"")


def _webp_exif(data: bytes) -> bytes:
    if data[12:16] != b"VP8X":  # only an extended file may carry EXIF
        return b""
    return next((data[part.body : part.body_end] for part in webp_parts(data) if part.kind == b"EXIF"), b"")


def _exif_orientation(exif: bytes) -> int:
    tiff = exif.removeprefix(_EXIF_SIGNATURE)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4], "")
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for entry in range(entries if order else 0):
            tag, _, _, value = struct.unpack_from(f"{order}HHIH", tiff, directory + 2 + 12 * entry)
            if tag == _EXIF_ORIENTATION:
                return value if 1 <= value <= 8 else 1
    except struct.error:  # the directory points outside the block: treated as none
        pass
    return 1


def minimal_exif(orientation: int) -> bytes:
    """Return a TIFF block that states the orientation (2 to 8) and nothing else; empty for 1, the default."""
    if orientation == 1:
        return b""
    directory = struct.pack(">HHHIHHI", 1, _EXIF_ORIENTATION, 3, 1, orientation, 0, 0)
    return b"MM\0*" + struct.pack(">I", 8) + directory
