"""Half a picture gets no result, and no sound one is mistaken for a half."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from shared.errors import ImageRejected
from shared.photograph import decode_photograph
from tests import images
from tests.broken_images.jpeg_parts import END, SOS, find, split

VARIANTS = {
    "plain": {},
    "fine": {"quality": 98, "subsampling": 0},
    "coarse": {"quality": 20},
    "optimised": {"optimize": True},
    "restarting": {"restart_marker_blocks": 3},
    "restarting by rows": {"restart_marker_rows": 1},
    "progressive": {"progressive": True},
    "progressive, fine": {"progressive": True, "quality": 98, "subsampling": 0},
}
MODES = ("RGB", "L", "CMYK")


def refused_as_truncated(data: bytes, min_side: int) -> bool:
    try:
        decode_photograph(data, min_side)
    except ImageRejected as refusal:
        return refusal.code == "image_truncated"
    return False


def grey_below(image: Image.Image) -> Image.Image:
    """Return the image with its lower half in the very grey that libjpeg fills in."""
    image = image.copy()
    image.paste(Image.new("RGB", image.size, (128, 128, 128)).convert(image.mode), (0, image.height // 2))
    return image


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("min_side", [64, 240])
def test_a_jpeg_that_ends_early_is_refused_wherever_it_ends(variant, mode, min_side):
    data = images.encode(images.lesion().convert(mode), "JPEG", **VARIANTS[variant])
    longest = max((part for kind, part in split(data) if kind == SOS), key=len)
    header = 2 + int.from_bytes(longest[2:4])
    for share in (0, 0.1, 0.5, 0.9):
        kept = header + int(share * (len(longest) - header))
        ended = data[: data.index(longest) + kept].rstrip(b"\xff") + END
        assert refused_as_truncated(ended, min_side)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("min_side", [64, 240])
def test_a_jpeg_that_is_grey_below_is_accepted(variant, mode, min_side):
    for image in (images.lesion(), grey_below(images.lesion()), grey_below(images.lesion(317, 233))):
        assert not refused_as_truncated(images.encode(image.convert(mode), "JPEG", **VARIANTS[variant]), min_side)


def test_a_progressive_jpeg_that_ends_in_its_first_scan_is_refused_at_any_scale():
    data = images.encode(images.lesion(), "JPEG", progressive=True)
    ended = data[: find(data, SOS) + 700].rstrip(b"\xff") + END
    assert refused_as_truncated(ended, 64)
    assert refused_as_truncated(ended, 240)


@pytest.mark.parametrize("bytes_behind", [b"\0", b"\xd9\xd9", bytes(3000), b"\xff\xd0", b"\xff\xff\xff"])
def test_bytes_between_the_pixels_and_the_end_marker_do_no_harm(bytes_behind):
    data = images.encode(grey_below(images.lesion()), "JPEG")
    assert not refused_as_truncated(data[:-2] + bytes_behind + END, 64)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16"])
def test_a_png_that_is_black_below_is_accepted_and_one_that_lacks_a_row_is_refused(mode):
    image = images.lesion(317, 233).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16))
    image.paste(0 if len(image.getbands()) == 1 else (0,) * len(image.getbands()), (0, 100, 317, 233))
    png = images.encode(image, "PNG", compress_level=9)
    assert not refused_as_truncated(png, 64)
    pixels = png.index(b"IDAT")
    deflated = png[pixels + 4 : pixels + 4 + struct.unpack_from(">I", png, pixels - 4)[0]]
    rows = zlib.decompress(deflated)
    for missing in (1, 100):
        shorter = images.png_chunk(b"IDAT", zlib.compress(rows[: -missing * len(rows) // 233]))
        assert refused_as_truncated(png[: pixels - 4] + shorter + images.png_chunk(b"IEND", b""), 64)
