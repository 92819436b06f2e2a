"""A colour profile keeps what it says about colours, and nothing else."""

import numpy as np
import pytest
from PIL import Image

from api.colour_profile import blank_profile
from shared.photograph_pixels import convert_to_srgb
from tests.images import SECRET
from tests.profiles import assemble_profile, p3_profile, read_tags, srgb_profile, table_profile, telling_profile

PROFILES = {"sRGB": srgb_profile(), "Display P3": p3_profile(), "table": table_profile()}
COLOURS = Image.fromarray(np.random.default_rng(11).integers(0, 256, (64, 64, 3), np.uint8))


def convert(profile: bytes) -> bytes:
    return convert_to_srgb(COLOURS, profile).tobytes()


@pytest.mark.parametrize("name", PROFILES)
def test_colours_are_converted_as_before_and_nothing_else_is_told(name):
    telling = telling_profile(PROFILES[name], SECRET)
    blank = blank_profile(telling)
    assert SECRET in telling
    assert SECRET[:4] not in blank
    assert len(blank) == len(telling)
    assert convert(blank) == convert(telling) == convert(PROFILES[name])
    assert name == "sRGB" or convert(blank) != COLOURS.tobytes()


def test_a_tag_for_colours_keeps_the_bytes_that_it_shares_with_one_that_is_blanked():
    tags = read_tags(srgb_profile())
    white = dict(tags)[b"wtpt"]
    blank = blank_profile(assemble_profile(srgb_profile(), [*tags, (b"Mine", white)]))
    assert dict(read_tags(blank))[b"wtpt"] == white


NO_PROFILES = {
    "nothing": b"",
    "a text": SECRET * 20,
    "no table": srgb_profile()[:131],
    "half a table": srgb_profile()[:140],
    "another kind of file": srgb_profile().replace(b"acsp", b"ACSP"),
    "too many tags": assemble_profile(srgb_profile(), [(b"Mine", SECRET)] * 101),
    "no tag": assemble_profile(srgb_profile(), []),
}


@pytest.mark.parametrize("name", NO_PROFILES)
def test_what_is_no_profile_becomes_zeros(name):
    profile = NO_PROFILES[name]
    assert blank_profile(profile) == bytes(len(profile))
    assert convert(blank_profile(profile)) == convert(profile) == COLOURS.tobytes()


def test_tags_that_lie_outside_are_passed_over():
    profile = srgb_profile()
    position = profile.index(b"cprt") + 4
    outside = profile[:position] + b"\xff\xff\xff\xf0" + profile[position + 4 :]
    assert len(blank_profile(outside)) == len(profile)
    assert convert(blank_profile(outside)) == convert(outside)
