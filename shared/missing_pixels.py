"""Finds out whether a file lacks pixels that its decoder silently fills in: grey in a JPEG, black in a PNG.

Such a file comes from a broken transfer that some program closed properly, or from a damaged memory card. Half a
picture must not get a result. WebP needs no check: its decoder refuses an incomplete file.
"""

import struct
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from shared.image_containers import (
    JPEG,
    JPEG_CODINGS,
    JPEG_PROGRESSIVE,
    PNG,
    SOS,
    Part,
    is_in_scans,
    jpeg_parts,
    png_parts,
)

# Appended to the coded pixels of a JPEG that seems to lack some. No FF: that would begin a marker.
_NOISE = np.random.default_rng(0).integers(0, 255, 256, np.uint8).tobytes()
# libjpeg fills in the middle of the scale: 128, or 127 where inks are inverted; give or take rounding.
_FILLED_GREY = range(126, 131)
# Where the passes of an interlaced PNG begin and the distances of their pixels: x, y, right, down.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_ONE_PASS = ((0, 0, 1, 1),)
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # per pixel, by the PNG's colour type
_SLICE_BYTES, _INFLATED_BYTES = 1 << 16, 1 << 20


def lacks_pixels(data: bytes, media_type: str, image: Image.Image, decode: Callable[[bytes], Image.Image]) -> bool:
    """Tell whether the decoder filled in a part of the picture; the last block of a JPEG can go unnoticed.

    image: as decoded, unchanged, at any scale. decode: decodes another file in the same way.
    """
    if media_type == JPEG:
        parts = list(jpeg_parts(data))
        return _jpeg_lacks_component(data, parts) or _jpeg_lacks_pixels(data, parts, image, decode)
    return media_type == PNG and _png_lacks_rows(data, image)


def _jpeg_lacks_component(data: bytes, parts: Sequence[Part]) -> bool:
    """Tell whether the averages of a component's blocks are in none of the scans."""
    frame = next(part for part in parts if part.kind in JPEG_CODINGS)
    components = data[frame.body + 6 : frame.body_end : 3]
    progressive = frame.kind == JPEG_PROGRESSIVE
    scanned = (_scanned(data, part, progressive) for part in parts if part.kind == SOS)
    return not set(components) <= set(b"".join(scanned))


def _scanned(data: bytes, scan: Part, progressive: bool) -> bytes:
    """Return the names of the components, a byte each, whose averages a scan holds and does not merely refine."""
    end = scan.body + 1 + 2 * data[scan.body]
    first_coefficient, bits_before = data[end], data[end + 2] >> 4
    return b"" if progressive and (first_coefficient or bits_before) else data[scan.body + 1 : end : 2]


def _jpeg_lacks_pixels(
    data: bytes, parts: Sequence[Part], image: Image.Image, decode: Callable[[bytes], Image.Image]
) -> bool:
    """Tell whether the coded pixels end before the picture is complete.

    libjpeg warns about that, but Pillow ignores the warning. So where it may have happened, the file is decoded again
    with noise after its coded pixels: a decoder that has them all skips the noise, one that lacks some decodes it.
    """
    last = np.atleast_1d(image.getpixel((image.width - 1, image.height - 1)))
    # In a picture of several scans, the last pixel may have lost no more than its finest shades.
    if not is_in_scans(parts) and any(value not in _FILLED_GREY for value in last):
        return False
    end = max(part.end for part in parts if part.kind == SOS)
    return decode(data[:end] + _NOISE + data[end:]).tobytes() != image.tobytes()


def _png_lacks_rows(data: bytes, image: Image.Image) -> bool:
    """Tell whether the pixel stream ends, properly, before the picture is complete."""
    # Interlaced or not, the row that is written last is one of these two; what is not written stays 0.
    bottom = np.asarray(image.crop((0, image.height - 2, image.width, image.height)))
    return not all(row.any() for row in bottom) and not _inflates_to(data, _png_bytes(data))


def _png_bytes(data: bytes) -> int:
    """Return the size of the inflated pixels in bytes, one per row for its filter included."""
    width, height, depth, colour_type, _, _, interlaced = struct.unpack_from(">IIBBBBB", data, 16)
    sizes = (
        (-(-(width - x) // right), -(-(height - y) // down))
        for x, y, right, down in (_ADAM7 if interlaced else _ONE_PASS)
    )
    return sum(rows * (1 + -(-columns * depth * _SAMPLES[colour_type] // 8)) for columns, rows in sizes)


def _inflates_to(data: bytes, size_bytes: int) -> bool:
    """Tell whether the PNG's pixels inflate to at least `size_bytes`, inflating little more than it takes to know."""
    stream, inflated = zlib.decompressobj(), 0
    for part in png_parts(data):
        for begin in range(part.body, part.body_end if part.kind == b"IDAT" else part.body, _SLICE_BYTES):
            deflated = data[begin : min(begin + _SLICE_BYTES, part.body_end)]
            while deflated and inflated < size_bytes and not stream.eof:
                inflated += len(stream.decompress(deflated, _INFLATED_BYTES))
                deflated = stream.unconsumed_tail
    return inflated >= size_bytes
