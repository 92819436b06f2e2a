"""The path from upload to pixels, and what it promises for every file, sound or broken."""

from PIL import Image

from api.photo_metadata import strip_metadata
from shared.errors import ImageRejected
from shared.image_containers import read_orientation
from shared.photograph import decode_photograph, inspect_photograph

# Pixels of the shorter side that are asked for: more than any file here has, and few, so that JPEGs are scaled down.
FULL, SMALL = 100_000, 64


def put_through(data: bytes) -> str:
    """Take a file through intake, stripping and decoding; return its fate as `tests.broken_images` words it.

    Raises AssertionError where a promise is broken, and whatever the path raises that is no refusal.
    """
    try:
        header = inspect_photograph(data)
        stripped = strip_metadata(data, header.media_type)
    except ImageRejected as refusal:
        return f"intake {refusal.code}"
    assert inspect_photograph(stripped) == header, "stripping changed the header"
    assert strip_metadata(stripped, header.media_type) == stripped, "stripping twice differs from stripping once"
    turns = [read_orientation(file, header.media_type) for file in (data, stripped)]
    assert turns[0] == turns[1], "stripping turned the photograph"
    before, after = _decode(data, FULL), _decode(stripped, FULL)
    assert isinstance(before, str) or _same(before, after), "stripping changed the pixels"
    if isinstance(after, str):
        return f"decoding {after}"
    assert after.size == (header.width, header.height), "decoded in another size than the header says"
    _check_scaled(stripped)
    return f"taken {after.width} x {after.height}"


def _decode(data: bytes, min_side: int) -> Image.Image | str:
    """Return the pixels, or the code of the refusal."""
    try:
        image = decode_photograph(data, min_side)
    except ImageRejected as refusal:
        return refusal.code
    assert (image.mode, image.info) == ("RGB", {}), "more than RGB pixels came out"
    return image


def _same(before: Image.Image, after: Image.Image | str) -> bool:
    return not isinstance(after, str) and before.size == after.size and before.tobytes() == after.tobytes()


def _check_scaled(data: bytes) -> None:
    """Decode as the worker does. A picture may be flat, or complete, at one scale and not at the other."""
    small = _decode(data, SMALL)
    if not isinstance(small, str):
        assert min(small.size) >= SMALL, "decoded smaller than asked for"
