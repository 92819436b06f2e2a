"""PNGs that are broken, or seem to be."""

import struct
import zlib

from shared.image_containers import MAX_PARTS, png_parts
from tests import images
from tests.broken_images.fates import (
    ANIMATED,
    DAMAGED,
    FLAT,
    LANDSCAPE,
    PORTRAIT,
    TOO_LARGE,
    TRUNCATED,
    UNDECODABLE,
    UNSUPPORTED,
)
from tests.images import encode, lesion, png_chunk

SIGNATURE, END = b"\x89PNG\r\n\x1a\n", png_chunk(b"IEND", b"")
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
MEBIBYTE = 1 << 20


def broken_pngs() -> dict[str, tuple[bytes, str]]:
    """Return the files by name, each with its fate."""
    data = encode(lesion(), "PNG")
    kinds = (_headers, _colours, _pixels, _checksums, _chunks, _bombs)
    return {f"png: {name}": entry for kind in kinds for name, entry in kind(data).items()}


def _header(width: int, height: int, *rest: int) -> bytes:
    """Return IHDR. rest: bit depth, colour type, compression, filter, interlace."""
    return png_chunk(b"IHDR", struct.pack(">II", width, height) + bytes([*rest, 0, 0, 0][:5]))


def _png(*chunks: bytes) -> bytes:
    return SIGNATURE + b"".join(chunks) + END


def _rows(count: int, row_bytes: int, filter_type: int = 0) -> bytes:
    """Return rows that hold 0, 1, 2 and so on, filtered as said."""
    return (bytes([filter_type]) + (bytes(range(251)) * (row_bytes // 251 + 1))[:row_bytes]) * count


def _pixels_of(rows: bytes) -> bytes:
    return _idat(zlib.compress(rows))


def _idat(deflated: bytes) -> bytes:
    return png_chunk(b"IDAT", deflated)


def _interlaced(width: int = 320, rows_missing: int = 0) -> bytes:
    """Return an RGB picture 240 high in the seven passes of Adam7, less so many rows of the last."""
    steps = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    sizes = [(-(-(240 - y) // down), 3 * -(-(width - x) // right)) for x, y, right, down in steps]
    passes = [_rows(*size) for size in sizes[:-1]] + [_rows(sizes[-1][0] - rows_missing, sizes[-1][1])]
    return _png(_header(width, 240, 8, RGB, 0, 0, 1), _pixels_of(b"".join(passes)))


RGB_320_240 = _header(320, 240, 8, RGB)
RGB_PIXELS = _pixels_of(_rows(240, 960))


def _headers(data: bytes) -> dict[str, tuple[bytes, str]]:
    def headed(*rest: int) -> bytes:
        return _png(_header(320, 240, *rest), RGB_PIXELS)

    return {
        "signature alone": (data[:8], DAMAGED),
        "cut in its header": (data[:25], DAMAGED),
        "cut before its pixels": (data[:33], DAMAGED),
        "line ends translated": (data.replace(b"\r\n", b"\n", 1), UNSUPPORTED),
        "no width": (_png(_header(0, 240, 8, RGB), RGB_PIXELS), DAMAGED),
        "2^31 wide": (_png(_header(1 << 31, 240, 8, RGB), RGB_PIXELS), TOO_LARGE),
        "2^32 - 1 wide and high": (_png(_header(0xFFFFFFFF, 0xFFFFFFFF, 8, RGB), RGB_PIXELS), TOO_LARGE),
        "higher than its pixels": (_png(_header(320, 480, 8, RGB), RGB_PIXELS), TRUNCATED),
        "3 bits": (headed(3, GREY), UNDECODABLE),
        "RGB of 4 bits": (headed(4, RGB), UNDECODABLE),
        "palette of 16 bits": (headed(16, PALETTE), UNDECODABLE),
        "colour type 1": (headed(8, 1), UNDECODABLE),
        "colour type 255": (headed(8, 255), UNDECODABLE),
        "compression 1": (headed(8, RGB, 1), LANDSCAPE),
        "filter method 1": (headed(8, RGB, 0, 1), UNDECODABLE),
        "interlace method 2": (headed(8, RGB, 0, 0, 2), UNDECODABLE),
        "interlaced in name only": (headed(8, RGB, 0, 0, 1), UNDECODABLE),
        "header of 12 bytes": (_png(png_chunk(b"IHDR", bytes(12)), RGB_PIXELS), DAMAGED),
        "header of 14 bytes": (_png(png_chunk(b"IHDR", RGB_320_240[8:21] + b"\0"), RGB_PIXELS), DAMAGED),
        "a second, larger header": (_png(RGB_320_240, _header(8000, 8000, 8, RGB), RGB_PIXELS), UNDECODABLE),
        "header after a gamma": (_png(png_chunk(b"gAMA", bytes(4)), RGB_320_240, RGB_PIXELS), DAMAGED),
        "Apple's variant": (_png(png_chunk(b"CgBI", bytes(4)), RGB_320_240, RGB_PIXELS), DAMAGED),
        "animation of no frames": (_png(RGB_320_240, png_chunk(b"acTL", bytes(8)), RGB_PIXELS), ANIMATED),
        "animation of no bytes": (_png(RGB_320_240, png_chunk(b"acTL", b""), RGB_PIXELS), ANIMATED),
        "animation announced at the end": (_png(RGB_320_240, RGB_PIXELS, png_chunk(b"acTL", bytes(8))), ANIMATED),
        "frames without an animation": (_png(RGB_320_240, png_chunk(b"fcTL", bytes(26)), RGB_PIXELS), LANDSCAPE),
    }


def _colours(data: bytes) -> dict[str, tuple[bytes, str]]:
    indexed, indices = _header(320, 240, 8, PALETTE), _pixels_of(_rows(240, 320))
    grey, alpha = _header(320, 240, 8, GREY), _header(320, 240, 8, RGBA)
    greys, see_through = _pixels_of(_rows(240, 320)), _pixels_of(_rows(240, 1280))
    palette = png_chunk(b"PLTE", bytes(range(256)) * 3)

    def transparent(length: int) -> bytes:
        return png_chunk(b"tRNS", bytes(index % 256 for index in range(length)))

    return {
        "palette missing": (_png(indexed, indices), FLAT),
        "palette of 2 colours, indices to 250": (_png(indexed, png_chunk(b"PLTE", bytes(6)), indices), FLAT),
        "palette of 257 colours": (_png(indexed, png_chunk(b"PLTE", bytes(3 * 257)), indices), UNDECODABLE),
        "palette of 4 bytes": (_png(indexed, png_chunk(b"PLTE", bytes(4)), indices), FLAT),
        "palette of no bytes": (_png(indexed, png_chunk(b"PLTE", b""), indices), FLAT),
        "palette behind its pixels": (_png(indexed, indices, palette), FLAT),
        "palettes in RGB": (_png(RGB_320_240, palette, palette, RGB_PIXELS), LANDSCAPE),
        "transparency of 300 entries": (_png(indexed, palette, transparent(300), indices), UNDECODABLE),
        "transparency of no palette": (_png(indexed, transparent(9), indices), LANDSCAPE),
        "transparency of 1 byte in RGB": (_png(RGB_320_240, transparent(1), RGB_PIXELS), UNDECODABLE),
        "transparent 16-bit colour in 8-bit RGB": (_png(RGB_320_240, transparent(6), RGB_PIXELS), LANDSCAPE),
        "transparent grey 65535 in 8 bits": (_png(grey, png_chunk(b"tRNS", b"\xff\xff"), greys), LANDSCAPE),
        "transparency beside alpha": (_png(alpha, transparent(6), see_through), LANDSCAPE),
        "all of it transparent": (_png(alpha, _pixels_of((b"\0" + bytes([9, 99, 200, 0]) * 320) * 240)), FLAT),
    }


def _pixels(data: bytes) -> dict[str, tuple[bytes, str]]:
    rows = _rows(240, 960)
    deflated = zlib.compress(rows)
    half, text = len(deflated) // 2, png_chunk(b"tEXt", b"a\0b")
    pieces = [b for begin in range(0, len(deflated), 9) for b in (_idat(deflated[begin : begin + 9]), _idat(b""))]
    return {
        "no pixels": (_png(RGB_320_240), DAMAGED),
        "pixels of no bytes": (_png(RGB_320_240, _idat(b"")), UNDECODABLE),
        "half of the rows": (_png(RGB_320_240, _pixels_of(rows[: len(rows) // 2])), TRUNCATED),
        "one row less": (_png(RGB_320_240, _pixels_of(rows[:-961])), TRUNCATED),
        "a stream cut in half": (_png(RGB_320_240, _idat(deflated[:half])), UNDECODABLE),
        "a stream without its checksum": (_png(RGB_320_240, _idat(deflated[:-4])), LANDSCAPE),
        "a stream with a wrong checksum": (
            _png(RGB_320_240, _idat(_with_last_byte_changed(deflated, len(deflated)))),
            UNDECODABLE,
        ),
        "no zlib header": (_png(RGB_320_240, _idat(deflated[2:])), UNDECODABLE),
        "a preset dictionary": (_png(RGB_320_240, _idat(b"\x78\xbb" + deflated[2:])), UNDECODABLE),
        "noise for pixels": (_png(RGB_320_240, _idat(bytes(range(256)) * 99)), UNDECODABLE),
        "filter 5": (_png(RGB_320_240, _pixels_of(_rows(240, 960, 5))), UNDECODABLE),
        "filter 255": (_png(RGB_320_240, _pixels_of(_rows(240, 960, 255))), UNDECODABLE),
        "rows to spare": (_png(RGB_320_240, _pixels_of(rows * 3)), LANDSCAPE),
        "cut in its pixels": (data[: len(data) // 2], TRUNCATED),
        "without its end": (data[:-12], LANDSCAPE),
        "interlaced": (_interlaced(), LANDSCAPE),
        "interlaced, cut": (_interlaced()[:-200], TRUNCATED),
        "interlaced, the last pass missing": (_interlaced(rows_missing=120), TRUNCATED),
        "interlaced, narrow, one row less": (_interlaced(width=64, rows_missing=1), TRUNCATED),
        "pixels in crumbs, some empty": (_png(RGB_320_240, *pieces), LANDSCAPE),
        "a text between pixels": (_png(RGB_320_240, _idat(deflated[:half]), text, _idat(deflated[half:])), LANDSCAPE),
    }


def _with_last_byte_changed(data: bytes, end: int) -> bytes:
    """Return data whose byte before `end` is another, whatever it was: a profile is dated, so its checksum varies."""
    return data[: end - 1] + bytes([data[end - 1] ^ 1]) + data[end:]


def _checksums(data: bytes) -> dict[str, tuple[bytes, str]]:
    full = images.telling_png(
        lesion().quantize(64), orientation=1, icc_profile=images.swapped_profile(), transparency=3
    )
    fates = dict.fromkeys((b"PLTE", b"tRNS"), UNDECODABLE) | {b"IHDR": DAMAGED}
    ignored = dict.fromkeys(
        (b"iCCP", b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME", b"prVt", b"IDAT", b"IEND"), LANDSCAPE
    )
    first = {part.kind: part for part in reversed(list(png_parts(full)))}
    return {
        f"wrong checksum of {kind.decode()}": (_with_last_byte_changed(full, first[kind].end), fate)
        for kind, fate in (fates | ignored).items()
    }


def _chunks(data: bytes) -> dict[str, tuple[bytes, str]]:
    def beside(*chunks: bytes) -> bytes:
        return _png(RGB_320_240, *chunks, RGB_PIXELS)

    def upright(value: int) -> bytes:
        return png_chunk(b"eXIf", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0))

    return {
        "a chunk of 2^31 bytes": (beside(struct.pack(">I4s", 1 << 31, b"tEXt")), DAMAGED),
        "a chunk of 2^32 - 1 bytes": (beside(struct.pack(">I4s", 0xFFFFFFFF, b"tEXt")), DAMAGED),
        "pixels of 2^31 bytes": (SIGNATURE + RGB_320_240 + b"\x80\0\0\0" + RGB_PIXELS[4:] + END, LANDSCAPE),
        "a chunk named in digits": (beside(png_chunk(b"1234", b"")), DAMAGED),
        "a chunk named by zeros": (beside(bytes(12)), DAMAGED),
        "an unknown critical chunk": (beside(png_chunk(b"ABCD", b"x")), LANDSCAPE),
        "a short gamma": (beside(png_chunk(b"gAMA", b"x")), LANDSCAPE),
        "short chromaticities": (beside(png_chunk(b"cHRM", b"x")), LANDSCAPE),
        "a short resolution": (beside(png_chunk(b"pHYs", b"x")), LANDSCAPE),
        "no rendering intent": (beside(png_chunk(b"sRGB", b"")), LANDSCAPE),
        "orientation 9": (beside(upright(9)), LANDSCAPE),
        "orientation 6, then 1": (beside(upright(6), upright(1)), PORTRAIT),
        "EXIF that points outside": (beside(png_chunk(b"eXIf", b"II*\0\xff\xff\xff\x7f")), LANDSCAPE),
        "bytes behind its end": (data + bytes(range(256)) * 40, LANDSCAPE),
        "a second PNG behind its end": (data + data, LANDSCAPE),
        "ended twice": (data + END, LANDSCAPE),
        "ended before its pixels": (SIGNATURE + RGB_320_240 + END + RGB_PIXELS, DAMAGED),
        "more empty chunks than there may be": (beside(png_chunk(b"gAMA", b"") * MAX_PARTS), DAMAGED),
        "named .jpg": (data, LANDSCAPE),
    }


def _bombs(data: bytes) -> dict[str, tuple[bytes, str]]:
    megabytes = zlib.compress(bytes(30 * MEBIBYTE), 1)
    profile = zlib.compress(images.swapped_profile())
    text = png_chunk(b"zTXt", b"a\0\0" + megabytes)
    international = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + megabytes)

    def profiled(body: bytes, times: int = 1) -> bytes:
        return _png(RGB_320_240, png_chunk(b"iCCP", body) * times, RGB_PIXELS)

    return {
        "a profile of noise": (profiled(b"p\0\0" + bytes(range(256))), LANDSCAPE),
        "a profile of no bytes": (profiled(b""), LANDSCAPE),
        "a profile without a name": (profiled(b"\0\0" + profile), LANDSCAPE),
        "a profile compressed in way 7": (profiled(b"p\0\7" + profile), LANDSCAPE),
        "a profile cut short": (profiled(b"p\0\0" + profile[:200]), LANDSCAPE),
        "a profile of 30 MB": (profiled(b"p\0\0" + megabytes), LANDSCAPE),
        "2000 profiles of a megabyte": (profiled(b"p\0\0" + zlib.compress(bytes(MEBIBYTE)), 2000), LANDSCAPE),
        "a text of 30 MB": (_png(RGB_320_240, text, RGB_PIXELS), LANDSCAPE),
        "an international text of 30 MB": (_png(RGB_320_240, international, RGB_PIXELS), LANDSCAPE),
        "pixels of 30 MB for a small picture": (_png(RGB_320_240, _idat(megabytes)), FLAT),
        "144 megapixels": (_png(_header(12_000, 12_000, 8, RGB), RGB_PIXELS), TOO_LARGE),
    }
