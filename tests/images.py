"""Photographs and other files, made in memory: what clinics send, good and bad.

`good_photographs`, `refused_at_intake` and `refused_when_decoded` list them by name for tests that go through all.
"""

import functools
import io
import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from tests.profiles import srgb_profile, telling_profile

# Stands for everything that names a patient; no stripped file may hold it.
SECRET = b"PATIENT-JANE-DOE-1961"
# The GPS position below as EXIF stores it, big-endian: 48 degrees, 8 minutes, 14.79 seconds.
GPS_RATIONALS = struct.pack(">6I", 48, 1, 8, 1, 1479, 100)
RED, GREY = (220, 30, 40), (128, 128, 128)


def lesion(width: int = 320, height: int = 240) -> Image.Image:
    """Return a seeded stand-in for a photograph: brown spot on noisy skin, RGB."""
    y, x = np.mgrid[0:height, 0:width]
    spot = np.exp(-(((x - width / 2) / (width / 6)) ** 2 + ((y - height / 2) / (height / 6)) ** 2))[..., None]
    noise = np.random.default_rng(7).normal(0.0, 6.0, (height, width, 1))
    return Image.fromarray(np.clip([205, 160, 140] - spot * [110, 100, 90] + noise, 0, 255).astype(np.uint8))


def red_corner(width: int = 96, height: int = 64, mode: str = "RGB") -> Image.Image:
    """Return a grey picture whose top left sixth is red, so that every way of turning it shows."""
    image = Image.new("RGB", (width, height), GREY)
    image.paste(RED, (0, 0, width // 3, height // 2))
    return image.convert(mode)


def encode(image: Image.Image, file_format: str, **options) -> bytes:
    """Return the image as a file."""
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def exif(orientation: int = 6) -> bytes:
    """Return an EXIF block with a GPS position, a maker's note and SECRET in several tags."""
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    block[ExifTags.Base.Artist] = block[ExifTags.Base.ImageDescription] = SECRET.decode()
    block.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.MakerNote] = b"Apple iOS\0" + SECRET
    gps = block.get_ifd(ExifTags.IFD.GPSInfo)
    gps[ExifTags.GPS.GPSLatitudeRef], gps[ExifTags.GPS.GPSLatitude] = "N", (48.0, 8.0, 14.79)
    data = block.tobytes()
    assert GPS_RATIONALS in data
    return data


def swapped_profile() -> bytes:
    """Return an ICC profile that is sRGB with red and green swapped, so that its effect on a picture is obvious."""
    return srgb_profile().replace(b"rXYZ", b"----").replace(b"gXYZ", b"rXYZ").replace(b"----", b"gXYZ")


def jpeg_segment(kind: int, body: bytes) -> bytes:
    """Return one JPEG segment, marker and length included."""
    return bytes([0xFF, kind]) + struct.pack(">H", 2 + len(body)) + body


def telling_jpeg(image: Image.Image, orientation: int = 6, **options) -> bytes:
    """Return a JPEG with what a phone writes and more: EXIF, XMP, IPTC, comment, previews, vendor parts, a trailer."""
    plain = encode(image, "JPEG", quality=92, exif=exif(orientation), comment=SECRET, **options)
    extra = (
        jpeg_segment(0xE0, b"JFXX\0\x10" + SECRET)
        + jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x>" + SECRET + b"</x>")
        + jpeg_segment(0xE2, b"FPXR\0" + SECRET)
        + jpeg_segment(0xEB, b"JP\0\x01" + SECRET)
        + jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x15" + SECRET)
    )
    scan = plain.rindex(b"\xff\xda")  # a progressive file has several: this lies between two of them
    return plain[:2] + extra + plain[2:scan] + jpeg_segment(0xFE, SECRET) + plain[scan:] + b"SEFT" + SECRET


def telling_png(image: Image.Image, orientation: int = 6, **options) -> bytes:
    """Return a PNG with EXIF, three kinds of text, a time, a private chunk and a trailer."""
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Author", SECRET.decode())
    texts.add_text("Comment", SECRET.decode(), zip=True)
    texts.add_itxt("XML:com.adobe.xmp", SECRET.decode())
    texts.add(b"tIME", b"\x07\xe9\x01\x02\x03\x04\x05")
    texts.add(b"prVt", SECRET)
    texts.add(b"prVt", SECRET, after_idat=True)
    return encode(image, "PNG", exif=exif(orientation), pnginfo=texts, **options) + SECRET


def telling_webp(image: Image.Image, orientation: int = 6, **options) -> bytes:
    """Return a WebP with EXIF, XMP, a private chunk and a trailer."""
    plain = encode(image, "WEBP", exif=exif(orientation), xmp=SECRET, **options)
    private = b"PRVT" + struct.pack("<I", len(SECRET)) + SECRET + b"\0" * (len(SECRET) % 2)
    return plain[:4] + struct.pack("<I", len(plain) + len(private) - 8) + plain[8:] + private + SECRET


def png_header(width: int, height: int) -> bytes:
    """Return the IHDR chunk of a PNG with 8-bit RGB pixels."""
    return png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """Return one PNG chunk, length and checksum included."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@functools.cache
def png_bomb(side: int = 12_000) -> bytes:
    """Return a sound PNG of side x side black RGB pixels: at the default side, 2 MB that become 432."""
    deflate, row = zlib.compressobj(1), bytes(1 + 3 * side)
    pixels = b"".join(deflate.compress(row) for _ in range(side)) + deflate.flush()
    chunks = png_header(side, side) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def grey_ramp_16_bit(width: int = 256, height: int = 64) -> Image.Image:
    """Return a 16-bit grey picture whose column k has the value 257 k + 100, which is k of 255; the last is white."""
    return Image.fromarray(np.tile(np.minimum(np.arange(width) * 257 + 100, 65_535).astype(np.uint16), (height, 1)))


def neutral_ycck_jpeg(stored_y: int = 90, stored_k: int = 255) -> bytes:
    """Return a YCCK JPEG without chroma: a CMYK one whose Adobe marker is told to read it as luma and chroma.

    It holds stored_y on its left half and 20 more on its right. Decoders turn Y into C = M = Y = 255 - Y; Adobe stores
    inks inverted; so the picture is grey 255 - stored_y on paper of brightness stored_k.
    """
    image = Image.new("CMYK", (96, 64), (255 - stored_y, 127, 127, 255 - stored_k))
    image.paste((235 - stored_y, 127, 127, 255 - stored_k), (48, 0, 96, 64))
    data = encode(image, "JPEG", quality=100)
    transform = data.index(b"Adobe") + 11
    return data[:transform] + b"\x02" + data[transform + 1 :]


def multi_picture_jpeg() -> bytes:
    """Return an MPO as phones send it: the photograph, then a second picture that is not meant for the network."""
    return encode(lesion(), "MPO", save_all=True, append_images=[red_corner(320, 240)])


def animation(file_format: str) -> bytes:
    """Return two frames as an animated PNG, WEBP or GIF."""
    return encode(lesion(), file_format, save_all=True, append_images=[red_corner(320, 240)], duration=100)


def truncated(data: bytes) -> bytes:
    """Return the first two thirds of a file, as after a broken transfer."""
    return data[: len(data) * 2 // 3]


@functools.cache
def good_photographs() -> dict[str, tuple[bytes, str]]:
    """Return files that must be accepted and decoded, with their media types."""
    image, profile = lesion(), telling_profile(swapped_profile(), SECRET)
    see_through = image.convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(image.size))
    return {
        "jpeg": (encode(image, "JPEG", quality=92), "image/jpeg"),
        "telling jpeg": (telling_jpeg(image), "image/jpeg"),
        "progressive jpeg": (telling_jpeg(image, progressive=True), "image/jpeg"),
        "restart jpeg": (telling_jpeg(image, restart_marker_blocks=3), "image/jpeg"),
        "grey jpeg": (encode(image.convert("L"), "JPEG"), "image/jpeg"),
        "cmyk jpeg": (encode(image.convert("CMYK"), "JPEG"), "image/jpeg"),
        "ycck jpeg": (neutral_ycck_jpeg(), "image/jpeg"),
        "jpeg with profile": (telling_jpeg(image, icc_profile=profile), "image/jpeg"),
        "mpo": (multi_picture_jpeg(), "image/jpeg"),
        "png": (encode(image, "PNG"), "image/png"),
        "telling png": (telling_png(image, icc_profile=profile), "image/png"),
        "16-bit png": (encode(grey_ramp_16_bit(), "PNG"), "image/png"),
        "see-through png": (telling_png(see_through), "image/png"),
        "grey see-through png": (encode(see_through.convert("LA"), "PNG"), "image/png"),
        "palette png": (encode(image.quantize(64), "PNG", transparency=3), "image/png"),
        "1-bit png": (encode(image.convert("1"), "PNG"), "image/png"),
        "webp": (encode(image, "WEBP"), "image/webp"),
        "telling webp": (telling_webp(image, icc_profile=profile), "image/webp"),
        "lossless webp": (telling_webp(see_through, lossless=True), "image/webp"),
    }


@functools.cache
def refused_at_intake() -> dict[str, tuple[bytes, str]]:
    """Return files that are refused by their header alone, with their error codes."""
    image = lesion()
    return {
        "nothing": (b"", "image_empty"),
        "text named .jpg": (b"Dear doctor, please find my mole attached.\n", "image_type_unsupported"),
        "noise": (np.random.default_rng(1).bytes(4096), "image_type_unsupported"),
        "gif": (animation("GIF"), "image_type_unsupported"),
        "tiff": (encode(image, "TIFF"), "image_type_unsupported"),
        "bmp": (encode(image, "BMP"), "image_type_unsupported"),
        "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64), "image_type_unsupported"),
        "pdf": (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", "image_type_unsupported"),
        "jpeg cut in its header": (telling_jpeg(image)[:300], "image_header_damaged"),
        "png cut in its header": (encode(image, "PNG")[:30], "image_header_damaged"),
        "webp cut in its header": (encode(image, "WEBP")[:24], "image_header_damaged"),
        "bomb": (png_bomb(), "image_too_large"),
        "20 x 20": (encode(red_corner(20, 20), "PNG"), "image_too_small"),
        "animated png": (animation("PNG"), "image_animated"),
        "animated webp": (animation("WEBP"), "image_animated"),
    }


@functools.cache
def refused_when_decoded() -> dict[str, tuple[bytes, str]]:
    """Return files whose header is sound but whose pixels are not, with their error codes."""
    image = lesion()
    png = bytearray(encode(image, "PNG"))
    png[len(png) // 2 : len(png) // 2 + 64] = bytes(64)
    return {
        "truncated jpeg": (truncated(telling_jpeg(image)), "image_truncated"),
        "truncated progressive jpeg": (truncated(encode(image, "JPEG", progressive=True)), "image_truncated"),
        "truncated png": (truncated(encode(image, "PNG")), "image_truncated"),
        "truncated webp": (truncated(encode(image, "WEBP")), "image_truncated"),
        "damaged png": (bytes(png), "image_damaged"),
        "flat jpeg": (encode(Image.new("RGB", (320, 240), (201, 160, 140)), "JPEG"), "image_flat"),
        "flat png": (encode(Image.new("RGB", (320, 240), "black"), "PNG"), "image_flat"),
    }
