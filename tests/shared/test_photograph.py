"""What is accepted as a photograph, how the rest is refused, and which pixels come out."""

import threading
import time
from functools import partial

import numpy as np
import pytest
from PIL import Image

from shared.errors import ImageRejected
from shared.photograph import (
    MAX_ASPECT,
    MAX_PIXELS,
    MAX_PIXELS_WHOLE,
    MIN_SIDE,
    PhotographHeader,
    decode_photograph,
    inspect_photograph,
)
from shared.photograph_pixels import FLAT_SPREAD, reduce_photograph
from tests import images
from tests.broken_images.jpeg_parts import progressive, separated
from tests.broken_images.profiles import chained_profile

FORMATS = ("JPEG", "PNG", "WEBP")


def refusal(data: bytes, read=inspect_photograph) -> ImageRejected:
    with pytest.raises(ImageRejected) as refused:
        read(data)
    return refused.value


def decode(data: bytes) -> Image.Image:
    return decode_photograph(data, 64)


def close(image: Image.Image, position: tuple[int, int], colour: tuple[int, int, int], levels: int = 6) -> bool:
    return max(abs(a - b) for a, b in zip(image.getpixel(position), colour, strict=True)) <= levels


@pytest.mark.parametrize("name", images.good_photographs())
def test_what_clinics_send_is_accepted_and_decoded_to_clean_rgb(name):
    data, media_type = images.good_photographs()[name]
    header = inspect_photograph(data)
    image = decode(data)
    assert header.media_type == media_type
    assert (image.mode, image.info) == ("RGB", {})
    assert (image.width < image.height) == (header.width < header.height)


@pytest.mark.parametrize("name", images.refused_at_intake())
@pytest.mark.parametrize("read", [inspect_photograph, decode])
def test_what_is_not_a_photograph_is_refused_by_its_header(name, read):
    data, code = images.refused_at_intake()[name]
    assert refusal(data, read).code == code


@pytest.mark.parametrize("name", images.refused_when_decoded())
def test_broken_pixels_pass_the_header_and_are_refused_when_decoded(name):
    data, code = images.refused_when_decoded()[name]
    inspect_photograph(data)
    assert refusal(data, decode).code == code


def test_a_refusal_names_the_type_that_the_file_seems_to_be():
    names = {"heic": "HEIC", "gif": "GIF", "tiff": "TIFF", "bmp": "BMP", "pdf": "PDF", "text named .jpg": "text"}
    for name, word in names.items():
        assert f" {word}" in refusal(images.refused_at_intake()[name][0]).detail
    assert "iPhone" in refusal(images.refused_at_intake()["heic"][0]).detail


def test_a_decompression_bomb_is_refused_without_a_look_at_its_pixels():
    header_alone = images.png_bomb()[:60]
    assert "12000 x 12000" in refusal(header_alone + images.png_chunk(b"IDAT", b"")).detail


@pytest.mark.parametrize(("width", "height"), [(8192, 6144), (6144, 8192), (MIN_SIDE, MIN_SIDE * MAX_ASPECT)])
def test_sizes_at_the_limits_are_accepted(width, height):
    data = images.encode(Image.new("1", (width, height)), "PNG")
    assert inspect_photograph(data) == PhotographHeader("image/png", width, height)


@pytest.mark.parametrize(("side", "code"), [(MIN_SIDE - 1, "image_too_small"), (MAX_PIXELS // 6144, "image_too_large")])
def test_sizes_just_past_the_limits_are_refused(side, code):
    assert refusal(images.encode(Image.new("1", (side, 6145)), "PNG")).code == code


def test_what_is_much_longer_than_wide_is_refused():
    narrow = images.encode(Image.new("1", (MIN_SIDE * MAX_ASPECT + 1, MIN_SIDE)), "PNG")
    assert refusal(narrow).code == "image_too_narrow"
    assert refusal(images.encode(Image.new("1", (MIN_SIDE, 4000)), "PNG")).code == "image_too_narrow"


def grey_jpeg_in_scans(width: int, height: int) -> bytes:
    return separated(images.encode(Image.new("L", (width, height)), "JPEG"))


@pytest.mark.parametrize("jpeg", [partial(progressive, scans=1), partial(progressive, scans=2), grey_jpeg_in_scans])
def test_what_must_be_decoded_as_a_whole_may_be_half_as_large(jpeg):
    width, height = 6144, MAX_PIXELS_WHOLE // 6144
    assert inspect_photograph(jpeg(width, height)).height == height
    assert "25 megapixels" in refusal(jpeg(width, height + 1)).detail


def test_the_rare_kinds_of_jpeg_are_named():
    jpeg = images.encode(images.lesion(), "JPEG")
    assert "lossless" in refusal(jpeg.replace(b"\xff\xc0", b"\xff\xc3")).detail


def test_a_second_header_does_not_smuggle_a_larger_picture_in():
    png = images.encode(images.lesion(), "PNG")
    assert png[8:33] == images.png_header(320, 240)
    assert refusal(png[:8] + images.png_header(160, 120) + png[8:], decode).code == "image_damaged"
    jpeg = images.encode(images.lesion(), "JPEG")
    frame = jpeg.index(b"\xff\xc0")
    assert refusal(jpeg[:frame] + jpeg[frame : frame + 19] + jpeg[frame:]).code == "image_header_damaged"


def test_a_header_whose_checksum_is_wrong_is_not_believed():
    png = images.encode(images.lesion(), "PNG")
    assert refusal(png.replace(b"\x01\x40\0\0\0\xf0", b"\x01\x41\0\0\0\xf0")).code == "image_header_damaged"


@pytest.mark.parametrize("file_format", FORMATS)
@pytest.mark.parametrize(
    ("orientation", "corner"),
    # Where EXIF says that the stored picture's first row and column lie: 1 is top left, going on as in CIPA DC-008.
    [(1, "tl"), (2, "tr"), (3, "br"), (4, "bl"), (5, "tl"), (6, "tr"), (7, "br"), (8, "bl")],
)
def test_a_rotated_photograph_is_turned_upright(file_format, orientation, corner):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = images.encode(images.red_corner(192, 128), file_format, quality=95, exif=exif)
    size = (192, 128) if orientation < 5 else (128, 192)
    image = decode_photograph(data, 128)
    assert inspect_photograph(data) == PhotographHeader(f"image/{file_format.lower()}", *size)
    assert image.size == size
    corners = {"tl": (4, 4), "tr": (size[0] - 5, 4), "bl": (4, size[1] - 5), "br": (size[0] - 5, size[1] - 5)}
    for name, position in corners.items():
        assert close(image, position, images.RED if name == corner else images.GREY, 24)


@pytest.mark.parametrize(
    "tiff", [b"", b"MM\0*\0\0\xff\xff", b"II*\0\x08\0\0\0\xff\xff" + bytes(9), b"?? \0\0\0\0\x08" + bytes(20)]
)
def test_broken_exif_neither_warns_nor_rotates_nor_rejects_a_photograph(tiff):
    data = images.encode(images.red_corner(), "JPEG", quality=95, exif=b"Exif\0\0" + tiff)
    assert inspect_photograph(data) == PhotographHeader("image/jpeg", 96, 64)
    assert close(decode(data), (4, 4), images.RED, 24)


def test_a_multi_picture_file_is_its_first_picture():
    both = decode_photograph(images.multi_picture_jpeg(), 240)
    first = decode_photograph(images.encode(images.lesion(), "JPEG"), 240)
    assert np.abs(np.asarray(both, float) - np.asarray(first, float)).mean() < 1


@pytest.mark.parametrize(
    ("file_format", "min_side", "decoded"),
    # A JPEG is decoded at 1/2, 1/4 or 1/8; the others are averaged over whole blocks of any size. 600 // 151 is 3.
    [
        *((file_format, 150, (200, 150)) for file_format in FORMATS),
        *((file_format, 600, (800, 600)) for file_format in FORMATS),
        *((file_format, 900, (800, 600)) for file_format in FORMATS),
        ("JPEG", 151, (400, 300)),
        ("PNG", 151, (267, 200)),
        ("WEBP", 151, (267, 200)),
        ("JPEG", 66, (100, 75)),
    ],
)
def test_large_photographs_are_reduced_but_never_below_the_side_asked_for(file_format, min_side, decoded):
    data = images.encode(images.lesion(800, 600), file_format)
    assert decode_photograph(data, min_side).size == decoded


@pytest.mark.parametrize("height", [64 * 3, 64 * 3 + 1, 500, 700])
def test_a_photograph_is_reduced_in_strips_as_if_in_one_piece(height):
    image = images.lesion(700, height)
    strips, piece = reduce_photograph(image, height // 3), image.reduce(3)
    assert strips.tobytes() == piece.tobytes()


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    image = decode(images.encode(images.grey_ramp_16_bit(), "PNG"))
    assert [image.getpixel((k, 9)) for k in (0, 1, 100, 255)] == [(k, k, k) for k in (0, 1, 100, 255)]


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_composited_on_white(mode):
    image = images.red_corner(mode="L").convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.paste((0, 0, 0, 51), (48, 32, 96, 64))
    decoded = decode(images.encode(image.convert(mode), "PNG"))
    assert decoded.getpixel((4, 4)) == (255, 255, 255)
    assert decoded.getpixel((90, 60)) == (204, 204, 204)  # a fifth of black on white


def test_a_transparent_palette_entry_becomes_white_and_the_others_keep_their_colour():
    image = Image.new("P", (96, 64))
    image.putpalette([10, 20, 30, *images.RED])
    image.paste(1, (48, 0, 96, 64))
    decoded = decode(images.encode(image, "PNG", transparency=0))
    assert (decoded.getpixel((4, 4)), decoded.getpixel((90, 4))) == ((255, 255, 255), images.RED)


def test_one_bit_pictures_are_black_and_white():
    image = Image.new("1", (96, 64))
    image.paste(1, (48, 0, 96, 64))
    decoded = decode(images.encode(image, "PNG"))
    assert (decoded.getpixel((4, 4)), decoded.getpixel((90, 4))) == ((0, 0, 0), (255, 255, 255))


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (96, 64), (0, 255, 255, 0))  # magenta and yellow: red
    image.paste((255, 0, 0, 0), (48, 0, 96, 64))  # cyan
    decoded = decode(images.encode(image, "JPEG", quality=100))
    assert close(decoded, (8, 8), (255, 0, 0))
    assert close(decoded, (88, 8), (0, 255, 255))


def test_ycck_becomes_rgb():
    decoded = decode(images.neutral_ycck_jpeg(stored_y=90))
    assert close(decoded, (8, 8), (165, 165, 165), 3)
    assert close(decoded, (88, 8), (145, 145, 145), 3)


@pytest.mark.parametrize("file_format", FORMATS)
def test_the_colour_profile_is_applied(file_format):
    data = images.encode(images.red_corner(), file_format, quality=95, icc_profile=images.swapped_profile())
    red, green, blue = images.RED
    assert close(decode(data), (6, 6), (green, red, blue), 12)


@pytest.mark.parametrize(("mebibytes", "applied"), [(2, True), (5, False)])
def test_a_pngs_large_profile_is_applied_and_one_that_is_too_large_ignored(mebibytes, applied):
    padded = images.swapped_profile() + np.random.default_rng(0).bytes(mebibytes * 2**20)
    profile = len(padded).to_bytes(4, "big") + padded[4:]
    red, green, blue = images.RED
    expected = (green, red, blue) if applied else images.RED
    assert close(decode(images.encode(images.red_corner(), "PNG", icc_profile=profile)), (6, 6), expected, 12)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_profile_that_does_not_fit_is_ignored(mode):
    profile = images.swapped_profile() if mode == "L" else b"no profile at all"
    data = images.encode(images.red_corner(mode=mode), "PNG", icc_profile=profile)
    assert decode(data).tobytes() == decode(images.encode(images.red_corner(mode=mode), "PNG")).tobytes()


def test_a_profile_that_chains_computations_is_ignored():
    def profiled(steps: int) -> bytes:
        return images.encode(images.red_corner(), "JPEG", quality=95, icc_profile=chained_profile(steps))

    started = time.process_time()
    assert (
        decode(profiled(20_000)).tobytes() == decode(images.encode(images.red_corner(), "JPEG", quality=95)).tobytes()
    )
    assert time.process_time() - started < 1


def test_the_tolerance_of_flatness_is_exact():
    image = Image.new("RGB", (96, 64), (200, 150, 130))
    image.putpixel((5, 5), (200, 150, 130 + FLAT_SPREAD))
    assert refusal(images.encode(image, "PNG"), decode).code == "image_flat"
    image.putpixel((5, 5), (200, 150, 130 + FLAT_SPREAD + 1))
    decode(images.encode(image, "PNG"))


def test_pale_noisy_skin_is_not_flat():
    noise = np.random.default_rng(3).normal([220, 190, 175], 3.0, (240, 320, 3))
    data = images.encode(Image.fromarray(noise.astype(np.uint8)), "JPEG", quality=80)
    assert decode_photograph(data, 224).size == (320, 240)


@pytest.mark.parametrize("file_format", FORMATS)
def test_a_file_that_is_cut_anywhere_in_its_picture_is_refused(file_format):
    data = images.encode(images.lesion(), file_format)
    for end in (*range(0, len(data) - 40, 499), len(data) - 40):
        assert refusal(data[:end], decode).code in {
            "image_empty",
            "image_type_unsupported",
            "image_header_damaged",
            "image_truncated",
        }


def test_threads_decode_the_same_without_disturbing_each_other():
    data, _ = images.good_photographs()["jpeg with profile"]
    expected, results = decode(data).tobytes(), []
    threads = [threading.Thread(target=lambda: results.append(decode(data).tobytes())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 8
