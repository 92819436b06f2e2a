"""Nothing that names a patient or a place gets past intake, and not one coded pixel is touched."""

import io
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from api.colour_profile import blank_profile
from api.photo_metadata import strip_metadata
from shared.errors import ImageRejected
from shared.photograph import decode_photograph, inspect_photograph
from tests import images
from tests.profiles import telling_profile

TELLING = [name for name, (data, _) in images.good_photographs().items() if images.SECRET in data]


def strip(data: bytes) -> bytes:
    return strip_metadata(data, inspect_photograph(data).media_type)


def pixels(data: bytes) -> np.ndarray:
    """Return the first picture's pixels as stored: neither turned nor colour-managed."""
    return np.asarray(Image.open(io.BytesIO(data)))


def test_the_telling_files_tell():
    assert {data[:4] for data in (images.good_photographs()[name][0] for name in TELLING)} == {
        b"\xff\xd8\xff\xe0",
        b"\x89PNG",
        b"RIFF",
    }


@pytest.mark.parametrize("name", TELLING)
def test_neither_place_nor_name_nor_any_metadata_is_left(name):
    data, _ = images.good_photographs()[name]
    assert images.GPS_RATIONALS in data
    stripped = strip(data)
    for trace in (images.SECRET, images.GPS_RATIONALS, b"Apple", b"ns.adobe.com", b"Photoshop", b"JFXX", b"SEFT"):
        assert trace not in stripped


@pytest.mark.parametrize("name", images.good_photographs())
def test_the_pixels_stay_as_they_were_in_every_bit(name):
    data, _ = images.good_photographs()[name]
    stripped = strip(data)
    assert (pixels(stripped) == pixels(data)).all()
    assert inspect_photograph(stripped) == inspect_photograph(data)
    assert decode_photograph(stripped, 64).tobytes() == decode_photograph(data, 64).tobytes()


@pytest.mark.parametrize("telling", [images.telling_jpeg, images.telling_png, images.telling_webp])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_alone_survives_of_exif(telling, orientation):
    stripped = strip(telling(images.lesion(), orientation))
    exif = Image.open(io.BytesIO(stripped)).getexif()
    assert dict(exif) == ({} if orientation == 1 else {0x0112: orientation})


@pytest.mark.parametrize(("orientation", "flags"), [(1, 0x20), (6, 0x28)])  # profile; profile and EXIF
def test_an_extended_webp_announces_what_is_left_in_it(orientation, flags):
    data = images.telling_webp(images.lesion(), orientation, icc_profile=images.swapped_profile())
    stripped = strip(data)
    assert (data[20], stripped[20]) == (0x2C, flags)
    assert int.from_bytes(stripped[4:8], "little") == len(stripped) - 8


@pytest.mark.parametrize("telling", [images.telling_jpeg, images.telling_png, images.telling_webp])
def test_the_colour_profile_survives_without_its_texts(telling):
    profile = telling_profile(images.swapped_profile(), images.SECRET)
    stripped = strip(telling(images.lesion(), icc_profile=profile))
    assert Image.open(io.BytesIO(stripped)).info["icc_profile"] == blank_profile(profile)


def test_a_colour_profile_in_several_segments_survives_in_as_many():
    profile = telling_profile(images.swapped_profile(), images.SECRET * 4000)
    data = images.encode(images.lesion(), "JPEG", icc_profile=profile)
    stripped = strip(data)
    assert (stripped.count(b"ICC_PROFILE"), len(stripped)) == (3, len(data))
    assert Image.open(io.BytesIO(stripped)).info["icc_profile"] == blank_profile(profile)


@pytest.mark.parametrize(("number", "count"), [(1, 2), (1, 0), (2, 2)])
def test_a_colour_profile_that_lacks_a_segment_says_nothing(number, count):
    body = b"ICC_PROFILE\0" + bytes([number, count]) + telling_profile(images.swapped_profile(), images.SECRET)
    data = images.encode(images.lesion(), "JPEG")
    stripped = strip(data[:20] + images.jpeg_segment(0xE2, body) + data[20:])
    assert stripped == data[:20] + images.jpeg_segment(0xE2, body[:14] + bytes(len(body) - 14)) + data[20:]


def test_the_name_of_a_pngs_colour_profile_is_replaced():
    data = images.encode(images.lesion(), "PNG")
    profile = images.png_chunk(b"iCCP", images.SECRET + b"\0\0" + zlib.compress(images.swapped_profile()))
    stripped = strip(data[:33] + profile + data[33:])
    assert images.SECRET not in stripped
    assert Image.open(io.BytesIO(stripped)).info["icc_profile"] == blank_profile(images.swapped_profile())


@pytest.mark.parametrize("name", images.good_photographs())
def test_what_holds_nothing_comes_back_as_the_very_same_bytes(name):
    clean = strip(images.good_photographs()[name][0])
    assert strip(clean) is clean


@pytest.mark.parametrize("name", ["jpeg", "cmyk jpeg", "png", "palette png", "16-bit png", "webp"])
def test_a_plain_file_keeps_its_digest(name):
    data, _ = images.good_photographs()[name]
    assert strip(data) is data


def test_the_second_picture_of_a_multi_picture_file_is_dropped():
    data = images.multi_picture_jpeg()
    stripped = strip(data)
    assert data.count(b"\xff\xd8\xff") == 2
    assert stripped.count(b"\xff\xd8\xff") == 1
    assert b"MPF\0" not in stripped


def test_a_preview_inside_jfif_is_dropped():
    data = images.encode(images.lesion(), "JPEG")
    jfif = images.jpeg_segment(0xE0, b"JFIF\0\x01\x02\x01\0\x48\0\x48\x02\x02" + images.SECRET[:12])
    stripped = strip(data[:2] + jfif + data[20:])
    assert images.SECRET[:12] not in stripped
    assert stripped[:20] == data[:2] + images.jpeg_segment(0xE0, b"JFIF\0\x01\x02\x01\0\x48\0\x48\0\0")


def jfif(length: int) -> bytes:
    return images.jpeg_segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0"[:length])


def test_what_decoders_pass_over_does_not_come_to_tell_how_colours_are_coded():
    adobe = 2 + 16  # where the one segment ends that tells so
    data = images.encode(images.red_corner(), "JPEG", quality=95, keep_rgb=True)
    data = data[:2] + data[adobe:]
    for unheeded in (data[:2] + jfif(12) + data[2:], data[:2] + jfif(13) + data[2:], data[:-2] + jfif(14) + data[-2:]):
        assert (pixels(strip(unheeded)) == pixels(data)).all()
    assert (pixels(data[:2] + jfif(14) + data[2:]) != pixels(data)).any()


def test_an_orientation_is_kept_where_a_webp_that_breaks_off_cannot_swallow_it():
    data = images.telling_webp(images.lesion())
    exif = data[data.index(b"EXIF") : data.index(b"XMP ")]
    picture = data.index(b"VP8 ")
    early = data[:picture] + exif + data[picture:-3000]
    assert inspect_photograph(strip(early)) == inspect_photograph(early)


def test_a_webp_that_breaks_off_behind_its_picture_is_complete():
    data = images.telling_webp(images.lesion())
    assert (pixels(strip(data[: data.index(b"XMP ") + 12])) == pixels(data)).all()


def test_bytes_between_segments_are_dropped():
    data = images.encode(images.lesion(), "JPEG")
    assert strip(data[:20] + images.SECRET + data[20:]) == data


def test_a_comment_between_two_scans_is_dropped():
    data = images.encode(images.lesion(), "JPEG", progressive=True)
    scan = data.rindex(b"\xff\xda")
    assert data.count(b"\xff\xda") > 2
    assert strip(data[:scan] + images.jpeg_segment(0xFE, images.SECRET) + data[scan:]) == data


def test_restart_markers_and_escaped_bytes_are_no_segments():
    data = images.encode(images.lesion(), "JPEG", quality=98, restart_marker_blocks=1)
    assert b"\xff\xd3" in data
    assert b"\xff\x00" in data
    assert strip(data) is data


@pytest.mark.parametrize("name", TELLING)
def test_a_file_that_breaks_off_in_its_picture_is_kept_to_its_end_and_still_stripped(name):
    data = images.truncated(images.good_photographs()[name][0])
    stripped = strip(data)
    assert images.SECRET not in stripped
    assert stripped.endswith(data[-100:])
    with pytest.raises(ImageRejected, match="image_truncated"):
        decode_photograph(stripped, 64)


@pytest.mark.parametrize(
    ("data", "media_type"),
    [
        (images.telling_jpeg(images.lesion())[:400], "image/jpeg"),
        (images.telling_jpeg(images.lesion()).replace(b"\xff\xda", b"\xff\x4a"), "image/jpeg"),
        (images.encode(images.lesion(), "JPEG").replace(b"\xff\xdb\0\x43", b"\xff\xdb\0\x01", 1), "image/jpeg"),
        (images.encode(images.lesion(), "JPEG")[:-900] + b"\xff\x4a\0\x10" + bytes(900), "image/jpeg"),
        (images.telling_png(images.lesion())[:90], "image/png"),
        (images.telling_png(images.lesion()).replace(b"prVt", b"p\0\xffV"), "image/png"),
        (images.telling_png(images.lesion()).replace(b"IDAT", b"iDOT"), "image/png"),
        (images.telling_webp(images.lesion()).replace(b"VP8 ", b"VP9 "), "image/webp"),
        (images.animation("WEBP"), "image/webp"),
        (b"\xff\xd8\xff", "image/jpeg"),
    ],
)
def test_a_file_that_cannot_be_walked_never_passes(data, media_type):
    with pytest.raises(ImageRejected, match="image_header_damaged"):
        strip_metadata(data, media_type)


def test_a_24_megapixel_photograph_is_stripped_in_a_blink():
    noise = np.random.default_rng(5).integers(60, 200, (500, 750, 3), np.uint8)
    data = images.telling_jpeg(Image.fromarray(noise).resize((6000, 4000)))
    started = time.process_time()
    strip(data)
    assert time.process_time() - started < 0.5
