"""Identifies an uploaded photograph by its header at intake, and decodes it to upright sRGB pixels for the network."""

import io
import re
import struct
import zlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

from PIL import Image, ImageFile, PngImagePlugin
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from shared.errors import ImageRejected
from shared.image_containers import (
    APP1,
    JPEG,
    PNG,
    PNG_SIGNATURE_BYTES,
    SIGNATURES,
    WEBP,
    is_animated,
    is_decoded_whole,
    jpeg_parts,
    png_parts,
    read_orientation,
    read_size,
)
from shared.missing_pixels import lacks_pixels
from shared.photograph_pixels import convert_to_srgb, is_flat, reduce_photograph

# Pixels. 8192 x 6144 is the largest that phones sell as "50 megapixels"; Pillow needs 4 bytes for each, so 200 MB.
MAX_PIXELS = 8192 * 6144
# Pixels of a file that must be decoded as a whole. Pillow and libwebp make four copies of a WebP; each scan of a
# progressive JPEG goes over all coefficients. No camera writes either at full size.
MAX_PIXELS_WHOLE = MAX_PIXELS // 2
# Pixels above which a file that must be held as a whole is large: a WebP takes 15 bytes for each, a progressive JPEG 6,
# a PNG 5. Every other JPEG is reduced while it is read: the largest takes 7 MB.
_MANY_PIXELS = 4_000_000
# Longer over shorter side. Phones' panoramas reach 5; how far a picture can be reduced depends on its shorter side.
MAX_ASPECT = 10
# Pixels of the shorter side. The network reads 224: below 64, every pixel would be enlarged more than threefold.
MIN_SIDE = 64
_PNG_NEEDED = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_UNBOUNDED = nullcontext()
# Bytes of a PNG's profile once inflated. Pillow allows 1 MiB; scanners' colour tables are larger.
PngImagePlugin.MAX_TEXT_CHUNK = 4 * 2**20
# Used directly: `Image.open` would warn about sizes by a global setting and take an MPO apart.
_DECODERS = {JPEG: JpegImageFile, PNG: PngImageFile, WEBP: WebPImageFile}
# All that Pillow's three decoders raise on bad data, by their sources; 60,000 damaged files raised nothing else.
# SyntaxError: a structure that they do not take. OSError, EOFError: pixels that end or break. ValueError: chunks that
# contradict themselves. struct.error, IndexError: fields cut short. zlib.error: a stream that will not inflate.
# MemoryError is missing on purpose: it is the machine's fault, and the case deserves another attempt.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, struct.error, zlib.error)

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

# What clinics send by mistake, in the order in which it is tried: the last pattern matches any text.
_OTHER_TYPES = tuple(
    (name, re.compile(pattern, re.DOTALL))
    for name, pattern in (
        ("a HEIC picture", rb".{4}ftyp(hei|hev|mif1|msf1)"),
        ("an AVIF picture", rb".{4}ftypavi"),
        ("a video", rb".{4}ftyp|\x1a\x45\xdf\xa3|RIFF.{4}AVI "),
        ("a GIF", rb"GIF8[79]a"),
        ("a TIFF or raw picture", rb"II[*+]\0|MM\0[*+]"),
        ("a BMP picture", rb"BM.{4}\0{4}"),
        ("a JPEG 2000 picture", rb"\0{3}\x0cjP  |\xff\x4f\xff\x51"),
        ("a JPEG XL picture", rb"\0{3}\x0cJXL |\xff\x0a"),
        ("a DICOM file", rb".{128}DICM"),
        ("a PDF document", rb"%PDF"),
        ("a ZIP archive or an office document", rb"PK\x03\x04"),
        ("text", rb"[^\x00-\x08\x0e-\x1f\x7f]+\Z"),
    )
)


@dataclass(frozen=True, slots=True)
class PhotographHeader:
    """What the header says: media type, and width and height in pixels as a viewer sees them (upright)."""

    media_type: str
    width: int
    height: int


def inspect_photograph(data: bytes) -> PhotographHeader:
    """Identify an upload by its header alone; no pixel is decoded.

    Raises:
        ImageRejected: `image_empty`, `image_type_unsupported`, `image_header_damaged`, `image_too_large`,
            `image_too_small`, `image_too_narrow`, `image_animated`.
    """
    return _inspect(data)[0]


def _inspect(data: bytes) -> tuple[PhotographHeader, bool]:
    """Return the header, and whether a decoder must hold the whole picture at once."""
    media_type = _recognise(data)
    width, height = read_size(data, media_type)
    whole = is_decoded_whole(data, media_type)
    _check_size(width, height, MAX_PIXELS_WHOLE if whole else MAX_PIXELS)
    if is_animated(data, media_type):
        raise ImageRejected("image_animated", "This is an animation. Send one still photograph of the lesion.")
    if read_orientation(data, media_type) >= 5:  # 5 to 8 lie on their side
        width, height = height, width
    return PhotographHeader(media_type, width, height), whole or media_type == PNG


def _recognise(data: bytes) -> str:
    if not data:
        raise ImageRejected("image_empty", "The file is empty (0 bytes). Choose the photograph again and send it.")
    for media_type, signature in SIGNATURES.items():
        if signature.match(data):
            return media_type
    beginning = data[:1024]
    seems = next((name for name, pattern in _OTHER_TYPES if pattern.match(beginning)), "of an unknown type")
    advice = "Export it as JPEG, or set the camera to JPEG"
    if seems == "a HEIC picture":
        advice += " (iPhone: Settings, Camera, Formats, Most Compatible)"
    raise ImageRejected(
        "image_type_unsupported",
        f"This file seems to be {seems}; photographs must be JPEG, PNG or WebP. {advice}, and send it again.",
    )


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        kind = " for a WebP or a progressive JPEG" if max_pixels < MAX_PIXELS else ""
        raise ImageRejected(
            "image_too_large",
            f"The photograph has {width} x {height} pixels ({width * height / 1e6:.1f} megapixels); the limit{kind} is "
            f"{max_pixels / 1e6:.0f} megapixels. Crop it to the lesion or lower the camera's resolution.",
        )
    if min(width, height) < MIN_SIDE:
        raise ImageRejected(
            "image_too_small",
            f"The photograph has {width} x {height} pixels; the shorter side needs at least {MIN_SIDE}. "
            "Send the original, not a preview.",
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageRejected(
            "image_too_narrow",
            f"The photograph has {width} x {height} pixels; the longer side may be at most {MAX_ASPECT} times the "
            "shorter. Crop it to the lesion.",
        )


def decode_photograph(data: bytes, min_side: int, large: AbstractContextManager = _UNBOUNDED) -> Image.Image:
    """Return the photograph's pixels: mode RGB, 8 bit, sRGB, upright, no alpha, with an empty `info`.

    min_side: the pixels of the shorter side that the caller needs. Where the photograph has at least twice as many, it
    is decoded at a smaller scale that stays at or above that (a 24-megapixel JPEG: 80 ms instead of 340); it is never
    enlarged. Twice the size that it will be resized to keeps the difference under 1 in 255.

    large: held while a photograph is decoded that takes more than 60 MB for it, and up to 360.

    Raises:
        ImageRejected: all that `inspect_photograph` raises, `image_truncated`, `image_damaged`, `image_flat`.
    """
    header, whole = _inspect(data)
    with large if whole and header.width * header.height > _MANY_PIXELS else _UNBOUNDED:
        return _decode(data, header, min_side)


def _decode(data: bytes, header: PhotographHeader, min_side: int) -> Image.Image:
    try:
        image = _load(data, header, min_side)
        if lacks_pixels(data, header.media_type, image, partial(_load, header=header, min_side=min_side)):
            raise _truncated()
        profile = image.info.get("icc_profile")
        image = reduce_photograph(image, min_side)
    except _DECODING_ERRORS as error:
        raise _undecodable(data, header.media_type) from error
    image = convert_to_srgb(image, profile)
    image.info = {}
    if is_flat(image):
        raise ImageRejected(
            "image_flat",
            "The photograph is one flat colour. Check that nothing covers the lens and that the right file was chosen.",
        )
    orientation = read_orientation(data, header.media_type)
    return image.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else image


def _load(data: bytes, header: PhotographHeader, min_side: int) -> ImageFile.ImageFile:
    image = _open_photograph(data, header)
    image.draft("RGB", (min_side, min_side))
    image.load()
    return image


def _open_photograph(data: bytes, header: PhotographHeader) -> ImageFile.ImageFile:
    if header.media_type == JPEG:
        data = _without_exif(data)
    elif header.media_type == PNG:
        data = _without_extras(data)
    image = _DECODERS[header.media_type](io.BytesIO(data))
    # A second, larger header further on must not smuggle a picture past the limit that the first was checked against.
    if sorted(image.size) != sorted((header.width, header.height)):
        raise ValueError(f"two headers disagree: {image.size}")
    return image


def _without_exif(data: bytes) -> bytes:
    """Return the JPEG less its APP1 segments: Pillow would parse them for a resolution and warn about broken ones."""
    parts = jpeg_parts(data, head_alone=True)
    return b"".join([data[:2], *(data[part.start : part.end] for part in parts if part.kind != APP1)])


def _without_extras(data: bytes) -> bytes:
    """Return the PNG with its pixels and one profile only: Pillow would inflate every text and every further profile.

    20,000 profiles of a megabyte each fit into an upload, and cost 47 s. One that cannot be used is left out, too.
    """
    kept, profile_seen = [data[:PNG_SIGNATURE_BYTES]], False
    for part in png_parts(data):
        is_profile = part.kind == b"iCCP" and not profile_seen
        if part.kind in _PNG_NEEDED or (is_profile and inflate_profile(data[part.body : part.body_end]) is not None):
            kept.append(data[part.start : part.end])
        profile_seen |= part.kind == b"iCCP"
    return b"".join(kept)


def inflate_profile(chunk: bytes) -> bytes | None:
    """Return the colour profile in the body of a PNG's iCCP chunk; None if it cannot be inflated or is too large."""
    _, _, deflated = chunk.partition(b"\0")  # after its name
    inflating = zlib.decompressobj()
    try:
        profile = inflating.decompress(deflated[1:], PngImagePlugin.MAX_TEXT_CHUNK)
    except zlib.error:
        return None
    return None if deflated[:1] != b"\0" or inflating.unconsumed_tail else profile  # 0: the only way to compress


def _truncated() -> ImageRejected:
    return ImageRejected("image_truncated", "The file ends before the photograph is complete. Send it again.")


def _undecodable(data: bytes, media_type: str) -> ImageRejected:
    if _ends_early(data, media_type):
        return _truncated()
    return ImageRejected(
        "image_damaged",
        "The photograph cannot be decoded: its data are damaged. Send the original file again, or save it as JPEG.",
    )


def _ends_early(data: bytes, media_type: str) -> bool:
    if media_type == JPEG:  # neither marker can occur in coded pixels; an EXIF preview's own lie before the main scan
        return data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")
    if media_type == PNG:
        return b"IEND" not in data
    return len(data) < 8 + int.from_bytes(data[4:8], "little")
