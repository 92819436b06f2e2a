"""What holds for every file, however it is put together; hypothesis looks for one for which it does not."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import ImageRejected
from shared.image_containers import JPEG, PNG, SIGNATURES, WEBP, jpeg_parts, png_parts, read_orientation, webp_parts
from shared.photograph import MAX_ASPECT, MAX_PIXELS, MIN_SIDE, inspect_photograph
from tests import images
from tests.broken_images.jpeg_parts import APP1, added
from tests.fuzz.path import put_through

WALKS = {JPEG: jpeg_parts, PNG: png_parts, WEBP: webp_parts}
BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\x40\0\0\0WEBP")
# Of a TIFF block with one entry, the orientation: type, count and value are to follow.
ONE_ENTRY = b"MM\0*\0\0\0\x08\0\1\1\x12"
GOOD = [data for data, _ in images.good_photographs().values()]

# The same examples in every run, so that nobody's build fails by chance.
thoroughly = settings(max_examples=200, deadline=None, derandomize=True, database=None)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a good photograph, or its first part, some bytes of which are others, more or fewer."""
    data = draw(st.sampled_from(GOOD))
    for _ in range(draw(st.integers(1, 4))):
        begin = draw(st.integers(0, draw(st.sampled_from((1000, len(data))))))
        data = data[:begin] + draw(st.binary(max_size=8)) + data[begin + draw(st.integers(0, 8)) :]
    return data[: draw(st.sampled_from((len(data), len(data) // 2)))]


@thoroughly
@given(damaged())
def test_the_parts_of_a_file_lie_in_order_and_within_it(data):
    parts = []
    try:
        for media_type in (kind for kind, signature in SIGNATURES.items() if signature.match(data)):
            parts.extend(WALKS[media_type](data))
    except ImageRejected:
        parts.clear()
    assert all(0 < part.start < part.body <= part.body_end <= part.end <= len(data) for part in parts)
    assert all(before.end <= after.start for before, after in pairwise(parts))


@thoroughly
@given(damaged())
def test_a_damaged_photograph_is_refused_or_taken_as_it_was_stored(data):
    put_through(data)


@thoroughly
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=120))
def test_what_begins_like_a_photograph_is_refused_or_has_a_size_within_the_limits(beginning, rest):
    try:
        header = inspect_photograph(beginning + rest)
    except ImageRejected:
        return
    assert min(header.width, header.height) >= MIN_SIDE
    assert max(header.width, header.height) <= MAX_ASPECT * min(header.width, header.height)
    assert header.width * header.height <= MAX_PIXELS


@thoroughly
@given(st.sampled_from((b"", b"II*\0", b"MM\0*\0\0\0\x08", ONE_ENTRY)), st.binary(max_size=60))
def test_any_exif_states_one_of_eight_orientations(beginning, rest):
    data = added(GOOD[0], images.jpeg_segment(APP1, b"Exif\0\0" + beginning + rest))
    assert 1 <= read_orientation(data, JPEG) <= 8
