"""Tools to take a JPEG apart and to put one together wrongly."""

import struct
from collections.abc import Callable, Sequence

from shared.image_containers import jpeg_parts
from tests.images import jpeg_segment

SOF0, SOF2, DHT, SOS, DQT, DRI, APP0, APP1, APP2 = 0xC0, 0xC2, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0, 0xE1, 0xE2
BEGIN, END = b"\xff\xd8", b"\xff\xd9"
FLAT_QUANTISATION = jpeg_segment(DQT, bytes([0] + [1] * 64))
# One code, a single 0 bit: no difference in DC table 0, no more detail in AC table 0.
ONE_CODE_TABLES = b"".join(jpeg_segment(DHT, bytes([table, 1]) + bytes(16)) for table in (0x00, 0x10))


def split(data: bytes) -> list[tuple[int, bytes]]:
    """Return (kind, bytes) of each segment after SOI; a scan's includes its coded pixels."""
    return [(part.kind[0], data[part.start : part.end]) for part in jpeg_parts(data)]


def find(data: bytes, kind: int) -> int:
    """Return where the first segment of this kind begins."""
    return next(part.start for part in jpeg_parts(data) if part.kind[0] == kind)


def edited(data: bytes, kind: int, edit: Callable[[bytes], bytes]) -> bytes:
    """Return the JPEG with its first segment of this kind, marker and length included, as `edit` returns it."""
    start, old = find(data, kind), next(part for found, part in split(data) if found == kind)
    return data[:start] + edit(old) + data[start + len(old) :]


def poked(data: bytes, kind: int, offset: int, new: bytes) -> bytes:
    """Return the JPEG with bytes overwritten, counted from the marker of its first segment of this kind."""
    start = find(data, kind) + offset
    return data[:start] + new + data[start + len(new) :]


def cut(data: bytes, kind: int, offset: int) -> bytes:
    """Return the JPEG up to so many bytes into its first segment of this kind."""
    return data[: find(data, kind) + offset]


def less(data: bytes, kind: int) -> bytes:
    """Return the JPEG without its segments of this kind."""
    return data[:2] + b"".join(part for found, part in split(data) if found != kind)


def added(data: bytes, extra: bytes, before: int = APP0) -> bytes:
    """Return the JPEG with bytes put before its first segment of this kind."""
    return edited(data, before, lambda old: extra + old)


def halved(data: bytes) -> bytes:
    """Return the JPEG without its second half, and with its end marker all the same."""
    return data[: len(data) // 2].rstrip(b"\xff") + END


def frame(kind: int, width: int, height: int, components: int = 3, bits: int = 8, sampling: int = 0x11) -> bytes:
    """Return a frame header; every component but the first is sampled once per block."""
    each = (bytes([index + 1, 0x11 if index else sampling, 0]) for index in range(components))
    return jpeg_segment(kind, struct.pack(">BHHB", bits, height, width, components) + b"".join(each))


def scan(components: Sequence[int], first: int, last: int, bits: int = 0) -> bytes:
    """Return a scan's header. first, last: coefficients in zigzag order; bits: Ah and Al."""
    each = (bytes([index + 1, 0]) for index in components)
    return jpeg_segment(SOS, bytes([len(components)]) + b"".join(each) + bytes([first, last, bits]))


def separated(grey: bytes) -> bytes:
    """Return a JPEG in three scans, not progressive, all of whose components are a grey JPEG's."""
    width, height = reversed(struct.unpack_from(">HH", grey, find(grey, SOF0) + 5))
    coded = next(part for kind, part in split(grey) if kind == SOS)[10:]
    scans = (scan([index], 0, 63) + coded for index in range(3))
    return less(less(grey, SOF0), SOS)[:-2] + frame(SOF0, width, height) + b"".join(scans) + END


def progressive(width: int, height: int, scans: int, components: int = 3) -> bytes:
    """Return a grey progressive JPEG: one scan of averages, then scans that refine details of which there are none.

    Such a scan takes 16 bytes for a small picture, and has a decoder go over every coefficient of a component.
    """
    blocks = -(-width // 8) * -(-height // 8)
    long_runs = jpeg_segment(DHT, bytes([0x10, 1]) + bytes(15) + b"\xe0")  # one code: 16,384 blocks or more
    run_of_32767 = "0" + "1" * 14
    runs = run_of_32767 * -(-blocks // 32_767)
    runs += "1" * (-len(runs) % 8)
    coded = int(runs, 2).to_bytes(len(runs) // 8).replace(b"\xff", b"\xff\0")
    averages = scan(range(components), 0, 0) + bytes(-(-blocks * components // 8))
    details = (scan([index % components], 1, 63, 0x10) + coded for index in range(scans - 1))
    head = BEGIN + FLAT_QUANTISATION + frame(SOF2, width, height, components) + ONE_CODE_TABLES
    return head + averages + long_runs + b"".join(details) + END
