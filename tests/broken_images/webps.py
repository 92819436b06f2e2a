"""WebPs that are broken, or seem to be."""

import functools
import struct

from PIL import Image

from shared.image_containers import MAX_PARTS, WEBP_SIGNATURE_BYTES, webp_parts
from tests import images
from tests.broken_images.fates import ANIMATED, DAMAGED, LANDSCAPE, TOO_LARGE, TOO_SMALL, TRUNCATED, UNDECODABLE
from tests.images import encode, lesion

PROFILE_FLAG, ALPHA_FLAG, EXIF_FLAG, ANIMATION_FLAG = 0x20, 0x10, 0x08, 0x02


def broken_webps() -> dict[str, tuple[bytes, str]]:
    """Return the files by name, each with its fate."""
    kinds = (_lengths, _frames, _extended)
    return {f"webp: {name}": entry for kind in kinds for name, entry in kind().items()}


def _chunk(kind: bytes, body: bytes, length: int | None = None) -> bytes:
    stated = struct.pack("<I", len(body) if length is None else length)
    return kind + stated + body + b"\0" * (len(body) % 2)


def _webp(*chunks: bytes, length: int | None = None) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if length is None else length) + body


def _vp8x(width: int = 320, height: int = 240, flags: int = 0) -> bytes:
    return _chunk(
        b"VP8X", struct.pack("<I", flags) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    )


def _body(data: bytes, kind: bytes) -> bytes:
    return next(data[part.body : part.body_end] for part in webp_parts(data) if part.kind == kind)


@functools.cache
def _lossy() -> bytes:
    return _body(encode(lesion(), "WEBP"), b"VP8 ")


@functools.cache
def _lossless() -> bytes:
    return _body(encode(lesion(), "WEBP", lossless=True), b"VP8L")


def _lengths() -> dict[str, tuple[bytes, str]]:
    picture = _chunk(b"VP8 ", _lossy())
    sound = _webp(picture)
    return {
        "signature alone": (sound[:WEBP_SIGNATURE_BYTES], DAMAGED),
        "cut in its first chunk's header": (sound[:18], DAMAGED),
        "cut in its frame's header": (sound[:26], DAMAGED),
        "cut in its pixels": (sound[: len(sound) // 2], TRUNCATED),
        "says 0 bytes": (_webp(picture, length=0), DAMAGED),
        "says 12 bytes": (_webp(picture, length=12), DAMAGED),
        "says half": (_webp(picture, length=len(picture) // 2), TRUNCATED),
        "says a byte more": (_webp(picture, length=len(picture) + 5), LANDSCAPE),
        "says 4 GB": (_webp(picture, length=0xFFFFFFFF), LANDSCAPE),
        "a chunk that says 4 GB": (_webp(_chunk(b"VP8 ", _lossy(), 0xFFFFFFFF)), TRUNCATED),
        "a chunk that says 0 bytes": (_webp(_chunk(b"VP8 ", _lossy(), 0)), DAMAGED),
        "bytes behind its end": (sound + bytes(range(256)) * 40, LANDSCAPE),
        "more empty chunks than there may be": (_webp(_vp8x(), _chunk(b"XXXX", b"") * MAX_PARTS, picture), DAMAGED),
        "a sound file": (sound, LANDSCAPE),
    }


def _frames() -> dict[str, tuple[bytes, str]]:
    lossy, lossless = _lossy(), _lossless()

    def sized(width: int, height: int) -> bytes:
        return _webp(_chunk(b"VP8 ", lossy[:6] + struct.pack("<HH", width, height) + lossy[10:]))

    def largest_lossless() -> bytes:
        return lossless[:1] + struct.pack("<I", (1 << 28) - 1) + lossless[5:]

    return {
        "half of its frame": (_webp(_chunk(b"VP8 ", lossy[: len(lossy) // 2])), UNDECODABLE),
        "half of its lossless frame": (_webp(_chunk(b"VP8L", lossless[: len(lossless) // 2])), UNDECODABLE),
        "all but 20 bytes of its lossless frame": (_webp(_chunk(b"VP8L", lossless[:-20])), UNDECODABLE),
        "no width": (sized(0, 240), DAMAGED),
        "16383 x 16383": (sized(16_383, 16_383), TOO_LARGE),
        "16384 x 16384, lossless": (_webp(_chunk(b"VP8L", largest_lossless())), TOO_LARGE),
        "26 megapixels": (sized(6000, 4400), TOO_LARGE),
        "25 megapixels in name only": (sized(6000, 4100), UNDECODABLE),
        "63 high": (sized(320, 63), TOO_SMALL),
        "scaled by its header": (sized(320 | 3 << 14, 240 | 3 << 14), LANDSCAPE),
        "no key frame": (_webp(_chunk(b"VP8 ", bytes([lossy[0] | 1]) + lossy[1:])), UNDECODABLE),
        "profile 7": (_webp(_chunk(b"VP8 ", bytes([lossy[0] | 0x0E]) + lossy[1:])), UNDECODABLE),
        "not shown": (_webp(_chunk(b"VP8 ", bytes([lossy[0] & ~0x10]) + lossy[1:])), UNDECODABLE),
        "wrong start code": (_webp(_chunk(b"VP8 ", lossy[:3] + b"\0\0\0" + lossy[6:])), DAMAGED),
        "first partition of 500 kB": (_webp(_chunk(b"VP8 ", lossy[:1] + b"\xff\xff" + lossy[3:])), UNDECODABLE),
        "noise for pixels": (_webp(_chunk(b"VP8 ", lossy[:10] + bytes(range(256)) * 20)), UNDECODABLE),
        "lossless version 7": (
            _webp(_chunk(b"VP8L", lossless[:4] + bytes([lossless[4] | 0xE0]) + lossless[5:])),
            UNDECODABLE,
        ),
        "lossless without its signature": (_webp(_chunk(b"VP8L", b"\0" + lossless[1:])), DAMAGED),
        "lossless noise": (_webp(_chunk(b"VP8L", lossless[:5] + bytes(range(256)) * 20)), UNDECODABLE),
        "lossy named lossless": (_webp(_chunk(b"VP8L", lossy)), DAMAGED),
        "a frame of an unknown kind": (_webp(_chunk(b"VP9 ", lossy)), DAMAGED),
        "a second picture, cut short": (_webp(_chunk(b"VP8 ", lossy), _chunk(b"VP8 ", lossy)[:200]), LANDSCAPE),
        "two pictures": (_webp(_chunk(b"VP8 ", lossy), _chunk(b"VP8 ", lossy)), LANDSCAPE),
    }


def _extended() -> dict[str, tuple[bytes, str]]:
    picture, profile = _chunk(b"VP8 ", _lossy()), _chunk(b"ICCP", images.swapped_profile())
    see_through = lesion().convert("RGBA")
    see_through.putalpha(Image.linear_gradient("L").resize(see_through.size))
    alpha = _body(encode(see_through, "WEBP"), b"ALPH")
    animated = images.animation("WEBP")
    still_in_name = animated[:20] + bytes([animated[20] & ~ANIMATION_FLAG]) + animated[21:]
    turned = _chunk(b"EXIF", b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 9, 0, 0))
    return {
        "canvas larger than its picture": (_webp(_vp8x(640, 480), picture), UNDECODABLE),
        "canvas smaller than its picture": (_webp(_vp8x(160, 120), picture), UNDECODABLE),
        "canvas larger than its lossless picture": (_webp(_vp8x(640, 480), _chunk(b"VP8L", _lossless())), UNDECODABLE),
        "canvas of 2^24 x 2^24": (_webp(_vp8x(1 << 24, 1 << 24), picture), TOO_LARGE),
        "canvas header of 4 bytes": (_webp(_chunk(b"VP8X", bytes(4)), picture), DAMAGED),
        "canvas header alone": (_webp(_vp8x()), DAMAGED),
        "two canvas headers": (_webp(_vp8x(), _vp8x(), picture), UNDECODABLE),
        "canvas header behind the picture": (_webp(picture, _vp8x(640, 480)), LANDSCAPE),
        "every flag but animation": (_webp(_vp8x(flags=0xFFFFFFFD), picture), UNDECODABLE),
        "animated in name only": (_webp(_vp8x(flags=ANIMATION_FLAG), picture), ANIMATED),
        "animated but in name": (still_in_name, DAMAGED),
        "a frame of an animation beside the picture": (_webp(_vp8x(), picture, _chunk(b"ANMF", bytes(24))), LANDSCAPE),
        "alpha of no bytes": (_webp(_vp8x(flags=ALPHA_FLAG), _chunk(b"ALPH", b""), picture), UNDECODABLE),
        "alpha of noise": (_webp(_vp8x(flags=ALPHA_FLAG), _chunk(b"ALPH", bytes(range(256))), picture), UNDECODABLE),
        "alpha cut short": (_webp(_vp8x(flags=ALPHA_FLAG), _chunk(b"ALPH", alpha[:20]), picture), UNDECODABLE),
        "alpha coded in way 3": (
            _webp(_vp8x(flags=ALPHA_FLAG), _chunk(b"ALPH", b"\3" + alpha[1:]), picture),
            UNDECODABLE,
        ),
        "alpha without a flag": (_webp(_vp8x(), _chunk(b"ALPH", alpha), picture), LANDSCAPE),
        "alpha without a canvas header": (_webp(_chunk(b"ALPH", alpha), picture), DAMAGED),
        "alpha without a picture": (_webp(_vp8x(flags=ALPHA_FLAG), _chunk(b"ALPH", alpha)), DAMAGED),
        "a profile of no bytes": (_webp(_vp8x(flags=PROFILE_FLAG), _chunk(b"ICCP", b""), picture), LANDSCAPE),
        "a profile of noise": (
            _webp(_vp8x(flags=PROFILE_FLAG), _chunk(b"ICCP", bytes(range(256))), picture),
            LANDSCAPE,
        ),
        "a profile that is not announced": (_webp(_vp8x(), profile, picture), LANDSCAPE),
        "orientation 9": (_webp(_vp8x(flags=EXIF_FLAG), picture, turned), LANDSCAPE),
        "EXIF of no bytes": (_webp(_vp8x(flags=EXIF_FLAG), picture, _chunk(b"EXIF", b"")), LANDSCAPE),
    }
