"""Colour profiles, put together by hand (ICC.1:2022)."""

import struct

import numpy as np
from PIL import ImageCms

Tags = list[tuple[bytes, bytes]]


def srgb_profile() -> bytes:
    """Return sRGB as Little CMS writes it: a matrix and curves, which its red, green and blue share."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def p3_profile() -> bytes:
    """Return Display P3: sRGB's curve, and columns of the matrix from RGB to XYZ (D50) as Apple publishes them."""
    columns = {
        b"rXYZ": (0.51512, 0.24120, -0.00105),
        b"gXYZ": (0.29198, 0.69225, 0.04189),
        b"bXYZ": (0.15710, 0.06657, 0.78407),
    }
    coded = {name: b"XYZ \0\0\0\0" + _fixed(*column) for name, column in columns.items()}
    profile = srgb_profile()
    return assemble_profile(profile, [(name, coded.get(name, content)) for name, content in read_tags(profile)])


def table_profile() -> bytes:
    """Return a profile that converts by a table (tag A2B0, type mft2) of two steps a channel, filled with noise."""
    ramps = struct.pack(">6H", *(0, 65_535) * 3)
    noise = np.random.default_rng(3).integers(0, 65_536, 2**3 * 3).astype(">u2").tobytes()
    shape = bytes([3, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1) + struct.pack(">HH", 2, 2)
    table = b"mft2\0\0\0\0" + shape + ramps + noise + ramps
    profile = srgb_profile()
    tags = [(name, content) for name, content in read_tags(profile) if name in (b"desc", b"cprt", b"wtpt")]
    return assemble_profile(profile[:20] + b"Lab " + profile[24:], [*tags, (b"A2B0", table)])


def telling_profile(profile: bytes, text: bytes) -> bytes:
    """Return the profile with the text in its tags for texts and in a vendor's, and its first letters in the header."""
    described = b"desc\0\0\0\0" + struct.pack(">I", len(text) + 1) + text + bytes(79)
    texts = dict.fromkeys((b"desc", b"dmnd", b"dmdd"), described)
    texts |= dict.fromkeys((b"cprt", b"targ", b"Mine"), b"text\0\0\0\0" + text + b"\0")
    head = profile[:48] + text[:8] + profile[56:80] + text[:20] + profile[100:]
    return assemble_profile(head, [*texts.items(), *(tag for tag in read_tags(profile) if tag[0] not in texts)])


def assemble_profile(head: bytes, tags: Tags) -> bytes:
    """Return a profile of these tags, which share equal contents, under the header that `head` begins with."""
    table, contents, places = b"", b"", {}
    for name, content in tags:
        if content not in places:
            places[content] = 132 + 12 * len(tags) + len(contents)
            contents += content + bytes(-len(content) % 4)
        table += name + struct.pack(">II", places[content], len(content))
    size = 132 + len(table) + len(contents)
    return struct.pack(">I", size) + head[4:128] + struct.pack(">I", len(tags)) + table + contents


def read_tags(profile: bytes) -> Tags:
    """Return the profile's tags with their contents."""
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(count))
    return [(name, profile[offset : offset + size]) for name, offset, size in entries]


def _fixed(*numbers: float) -> bytes:
    return struct.pack(f">{len(numbers)}i", *(round(number * 65_536) for number in numbers))
