"""Strips a photograph's metadata (place, time, camera, names) at intake.

The coded pixels pass through bit for bit. Only listed parts are kept, so an unforeseen kind is dropped; orientation and
colour profile stay, since without them the lesion would lie on its side or change its colour; the profile's texts go.
"""

import io
import struct
import zlib

from api.colour_profile import blank_profile
from shared.image_containers import (
    APP1,
    JPEG,
    PNG,
    PNG_SIGNATURE_BYTES,
    SOI,
    SOS,
    WEBP,
    WEBP_PICTURE,
    jpeg_parts,
    minimal_exif,
    png_chunk,
    png_parts,
    read_orientation,
    webp_parts,
)
from shared.photograph import inflate_profile

_APP0, _APP2, _APP14 = b"\xe0", b"\xe2", b"\xee"
# Tables, frames, scans and EOI.
_JPEG_PICTURE = frozenset(bytes([code]) for code in range(0xC0, 0xE0))
_JFIF = b"JFIF\0"
# Bytes of a JFIF body before its preview's size (two more), and of an Adobe body. Both say how colours are coded, so
# one that decoders ignore, being shorter or after the first scan, must not be rewritten into one that they heed.
_JFIF_BYTES, _ADOBE_BYTES = 12, 12
_PNG_KEPT = frozenset(b"IHDR PLTE tRNS IDAT IEND gAMA cHRM sRGB sBIT bKGD pHYs cICP mDCV cLLI".split())
# A profile lies in up to 255 segments; each begins with this, its number and how many there are (ICC.1:2022, B.4).
_ICC, _ICC_HEAD_BYTES = b"ICC_PROFILE\0", 14
_PNG_PROFILE = b"ICC\0\0"  # a name, which must not be empty, and how it is compressed
_WEBP_EXIF_FLAG, _WEBP_XMP_FLAG = 0x08, 0x04


def strip_metadata(data: bytes, media_type: str) -> bytes:
    """Return the file without anything that could identify a patient or a place.

    It is unchanged if it holds no such thing, except that a PNG's profile is deflated anew.

    media_type: as returned by `inspect_photograph`, which accepted the file. Dropped: EXIF except the orientation, XMP,
    IPTC, comments, previews, second pictures, vendors' and unknown parts, all bytes after the end of the picture. What
    `blank_profile` blanks is blank.

    A file that is cut short within its picture is kept to its end; decoding it fails later as `image_truncated`. Damage
    that makes a part look like one of the kept kinds cannot be detected.

    Raises:
        ImageRejected: `image_header_damaged`: the file cannot be parsed, so its metadata cannot be removed.
    """
    exif = minimal_exif(read_orientation(data, media_type))
    stripped = {JPEG: _strip_jpeg, PNG: _strip_png, WEBP: _strip_webp}[media_type](data, exif)
    return data if stripped == data else stripped


def _strip_jpeg(data: bytes, exif: bytes) -> bytes:
    jfif, picture, profile, in_head = b"", [], [], True
    for part in jpeg_parts(data):
        body = data[part.body : part.body_end]
        in_head = in_head and part.kind != SOS
        if part.kind in _JPEG_PICTURE:
            picture.append(data[part.start : part.end])
        elif in_head and part.kind == _APP2 and body.startswith(_ICC):
            profile.append(len(picture))
            picture.append(body)
        elif in_head and part.kind == _APP0 and body.startswith(_JFIF) and len(body) >= _JFIF_BYTES + 2:
            jfif = _jpeg_segment(_APP0, body[:_JFIF_BYTES] + b"\0\0")  # a preview of 0 x 0 pixels
        elif in_head and part.kind == _APP14 and body.startswith(b"Adobe") and len(body) >= _ADOBE_BYTES:
            picture.append(_jpeg_segment(_APP14, body[:_ADOBE_BYTES]))
    blanked = _blank_pieces([picture[place] for place in profile])
    for place in profile:
        picture[place] = _jpeg_segment(_APP2, blanked[picture[place]])
    orientation = _jpeg_segment(APP1, b"Exif\0\0" + exif) if exif else b""
    return b"".join([b"\xff" + SOI, jfif, orientation, *picture])


def _blank_pieces(bodies: list[bytes]) -> dict[bytes, bytes]:
    """Return for each body of a colour profile's segments the same without its texts; zeros unless all are there."""
    bodies = sorted(bodies)  # by their numbers
    profile = b"".join(body[_ICC_HEAD_BYTES:] for body in bodies)
    is_whole = all(list(body[_ICC_HEAD_BYTES - 1 : _ICC_HEAD_BYTES]) == [len(bodies)] for body in bodies)
    blank = io.BytesIO(blank_profile(profile) if is_whole else bytes(len(profile)))
    return {body: body[:_ICC_HEAD_BYTES] + blank.read(len(body[_ICC_HEAD_BYTES:])) for body in bodies}


def _jpeg_segment(kind: bytes, body: bytes) -> bytes:
    return b"\xff" + kind + struct.pack(">H", 2 + len(body)) + body


def _strip_png(data: bytes, exif: bytes) -> bytes:
    kept, profile_seen = [data[:PNG_SIGNATURE_BYTES]], False
    for part in png_parts(data):
        if part.kind == b"IDAT" and exif:
            kept.append(png_chunk(b"eXIf", exif))
            exif = b""
        if part.kind in _PNG_KEPT:
            kept.append(data[part.start : part.end])
        elif part.kind == b"iCCP" and not profile_seen:  # no reader uses a second one
            profile_seen, profile = True, inflate_profile(data[part.body : part.body_end])
            if profile is not None:
                kept.append(png_chunk(b"iCCP", _PNG_PROFILE + zlib.compress(blank_profile(profile))))
    return b"".join(kept)


def _strip_webp(data: bytes, exif: bytes) -> bytes:
    kept, missing = [], 0
    for part in webp_parts(data):
        if part.kind == b"VP8X":
            flags = data[part.body] & ~(_WEBP_EXIF_FLAG | _WEBP_XMP_FLAG) | (_WEBP_EXIF_FLAG if exif else 0)
            kept.append(data[part.start : part.body] + bytes([flags]) + data[part.body + 1 : part.end])
        elif part.kind in WEBP_PICTURE:
            if exif:  # allowed anywhere; after a truncated picture, it would be read as part of that
                kept.append(b"EXIF" + struct.pack("<I", len(exif)) + exif)
            kept.append(data[part.start : part.end])
            missing = int.from_bytes(data[part.start + 4 : part.body], "little") - (part.body_end - part.body)
            break
        elif part.kind == b"ALPH":
            kept.append(data[part.start : part.end])
        elif part.kind == b"ICCP":
            profile = blank_profile(data[part.body : part.body_end])
            kept.append(data[part.start : part.body] + profile + data[part.body_end : part.end])
    body = b"WEBP" + b"".join(kept)
    # A truncated file still looks truncated.
    return b"RIFF" + struct.pack("<I", min(len(body) + missing, 0xFFFFFFFF)) + body
