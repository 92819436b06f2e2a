"""A colour profile that asks for more computing than its size lets suspect."""

import struct

from tests.profiles import assemble_profile, read_tags, srgb_profile


def chained_profile(steps: int) -> bytes:
    """Return sRGB with a chain of matrices that all share one matrix's bytes: 8 bytes a step.

    Of the profiles with such a chain (tag D2B0, type mpet), this is a sound one by ICC.1:2010.
    """
    profile = srgb_profile()
    matrix = b"matf" + struct.pack(">IHH12f", 0, 3, 3, 0.5, 0.3, 0.2, 0.2, 0.6, 0.2, 0.1, 0.2, 0.7, 0, 0, 0)
    positions = struct.pack(">II", 16 + 8 * steps, len(matrix)) * steps
    chain = b"mpet" + struct.pack(">IHHI", 0, 3, 3, steps) + positions + matrix
    version_4_3 = b"\x04\x30\0\0"
    return assemble_profile(profile[:8] + version_4_3 + profile[12:], [*read_tags(profile), (b"D2B0", chain)])
