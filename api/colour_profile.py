"""Blanks what a colour profile says beyond colours: texts, serial numbers, names, times (ICC.1:2022)."""

import re
import struct

_HEADER_BYTES, _TAG = 128, struct.Struct(">4sII")  # a tag's name, offset and size
_MOST_TAGS = 100  # Little CMS reads no profile that has more
# Size; version, class, colour spaces; signature; flags; attributes, rendering intent, illuminant. The rest names the
# maker, the model and the time, or is for vendors to use.
_HEADER_KEPT = (slice(0, 4), slice(8, 24), slice(36, 40), slice(44, 48), slice(60, 80))
_TAGS_KEPT = re.compile(rb"wtpt|bkpt|chad|cicp|gamt|[rgb]XYZ|[rgbk]TRC|[AD]2B[0-3]|B2[AD][0-3]")


def blank_profile(profile: bytes) -> bytes:
    """Return the profile with zeros where converting colours reads nothing. Everything keeps its place and size.

    Of a text, its type is left. What cannot be read as a profile becomes zeros altogether; readers ignore the one as
    well as the other.
    """
    tags = _read_tags(profile)
    head = _HEADER_BYTES + 4 + _TAG.size * len(tags)
    kept = [*_HEADER_KEPT, slice(_HEADER_BYTES, head)] if tags else []
    for name, offset, size in tags:
        kept.append(slice(offset, offset + (size if _TAGS_KEPT.fullmatch(name) else min(size, 4))))  # or its type
    blank = bytearray(len(profile))
    for part in kept:
        blank[part] = profile[part]
    return bytes(blank)


def _read_tags(profile: bytes) -> list[tuple[bytes, int, int]]:
    """Return the tags as their table has them; none if this is no profile. They may lie anywhere, or share bytes."""
    table = profile[_HEADER_BYTES + 4 :]
    count = int.from_bytes(profile[_HEADER_BYTES : _HEADER_BYTES + 4])
    if profile[36:40] != b"acsp" or count > min(_MOST_TAGS, len(table) // _TAG.size):
        return []
    return list(_TAG.iter_unpack(table[: _TAG.size * count]))
