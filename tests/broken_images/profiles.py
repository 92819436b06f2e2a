"""A colour profile that asks for more computing than its size lets suspect."""

import struct

from PIL import ImageCms


def chained_profile(steps: int) -> bytes:
    """Return sRGB with a chain of matrices that all share one matrix's bytes: 8 bytes a step.

    Of the profiles with such a chain (tag D2B0, type mpet), this is a sound one by ICC.1:2010.
    """
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    matrix = b"matf" + struct.pack(">IHH12f", 0, 3, 3, 0.5, 0.3, 0.2, 0.2, 0.6, 0.2, 0.1, 0.2, 0.7, 0, 0, 0)
    positions = struct.pack(">II", 16 + 8 * steps, len(matrix)) * steps
    chain = b"mpet" + struct.pack(">IHHI", 0, 3, 3, steps) + positions + matrix
    tags = [*_tags(profile), (b"D2B0", chain)]
    table, contents = b"", b""
    for signature, content in tags:
        table += signature + struct.pack(">II", 132 + 12 * len(tags) + len(contents), len(content))
        contents += content + bytes(-len(content) % 4)
    size = 132 + len(table) + len(contents)
    version_4_3 = b"\x04\x30\0\0"
    head = struct.pack(">I", size) + profile[4:8] + version_4_3 + profile[12:128]
    return head + struct.pack(">I", len(tags)) + table + contents


def _tags(profile: bytes) -> list[tuple[bytes, bytes]]:
    (count,) = struct.unpack_from(">I", profile, 128)
    entries = (struct.unpack_from(">4sII", profile, 132 + 12 * index) for index in range(count))
    return [(signature, profile[offset : offset + length]) for signature, offset, length in entries]
