"""What the most laborious photographs cost that are taken: a worker must have time and room for some at once."""

import struct
import zlib

import pytest
from PIL import Image

from api.photo_metadata import strip_metadata
from shared.errors import ImageRejected
from shared.image_containers import MAX_PARTS, MAX_SCANS
from shared.photograph import decode_photograph, inspect_photograph
from tests.broken_images.jpeg_parts import APP2, added, progressive
from tests.broken_images.profiles import chained_profile
from tests.fuzz.campaign import Campaign, run_campaign
from tests.images import encode, jpeg_segment, lesion, png_chunk

# The sides of 50 megapixels, and of the 25 that may be taken of a WebP and a progressive JPEG.
LARGEST, LARGEST_WHOLE = (8192, 6144), (5792, 4344)
# The network's input is half as large.
MIN_SIDE = 448


def png(depth: int, colour_type: int, pixel_bytes: int, interlaced: int = 0) -> bytes:
    """Return a PNG of 50 megapixels, every row of which is filtered in the most laborious way."""
    width, height = LARGEST
    deflate, row = zlib.compressobj(1), b"\4" + bytes(range(64)) * (width * pixel_bytes // 64)
    pixels = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def webp() -> bytes:
    return encode(Image.linear_gradient("L").resize(LARGEST_WHOLE).convert("RGB"), "WEBP", method=0)


def profiles() -> bytes:
    """Return a PNG of 20,000 profiles of a megabyte each."""
    profile = png_chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(2**20)))
    data = encode(lesion(), "PNG")
    return data[:33] + profile * 20_000 + data[33:]


def profiled() -> bytes:
    return encode(lesion(1024, 768), "JPEG", icc_profile=chained_profile(100_000))


LABORIOUS = {
    "progressive, inks, all scans": lambda: progressive(*LARGEST_WHOLE, MAX_SCANS, components=4),
    "PNG of 8-bit RGBA": lambda: png(8, 6, 4),
    "PNG of 16-bit grey": lambda: png(16, 0, 2),
    "PNG of 16-bit grey and alpha": lambda: png(16, 4, 4),
    "WebP": webp,
    "a profile of 100,000 steps": profiled,
    "20,000 profiles": profiles,
    "as many segments as there may be": lambda: added(
        encode(lesion(), "JPEG"), jpeg_segment(APP2, b"ICC_PROFILE\0\1\1") * (MAX_PARTS - 10)
    ),
}


def make_laborious(name: str, number: int) -> bytes:
    return LABORIOUS[name]()


def take_the_path(data: bytes) -> str:
    """Go once from upload to pixels, as API and worker do."""
    header = inspect_photograph(data)
    try:
        decode_photograph(strip_metadata(data, header.media_type), MIN_SIDE)
    except ImageRejected as refusal:
        return f"decoding {refusal.code}"
    return "taken"


@pytest.mark.parametrize("name", LABORIOUS)
def test_the_most_laborious_files_cost_seconds_and_not_minutes_and_400_megabytes_at_most(name):
    tally = run_campaign(Campaign(name, files=1, processes=1, make=make_laborious, path=take_the_path))
    assert tally.findings == []
    assert set(tally.fates) <= {"taken", "decoding"}
