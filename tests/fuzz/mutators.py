"""Ways to break a file at random, some of which know how JPEG, PNG and WebP are put together.

Each takes a seeded generator, the file and a second one to take bytes from, and returns the broken file.
"""

import random
import struct
import zlib
from collections.abc import Callable, Sequence

from shared.errors import ImageRejected
from shared.image_containers import JPEG, PNG, SIGNATURES, WEBP, Part, jpeg_parts, png_parts, webp_parts

WALKS = {JPEG: jpeg_parts, PNG: png_parts, WEBP: webp_parts}
# Where a part's length lies behind its start, and how it is written.
LENGTHS = {JPEG: (2, ">H"), PNG: (0, ">I"), WEBP: (4, "<I")}
EXTREMES = (
    b"\0",
    b"\x01",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\0\0",
    b"\xff\xff",
    b"\x7f\xff\xff\xff",
    b"\xff" * 4,
    b"\0" * 4,
)
INFLATED = {b"IDAT": 0, b"iCCP": 3}  # PNG chunks that hold a zlib stream, and the bytes before it in ours
MAX_INFLATED_BYTES = 1 << 20

Mutator = Callable[[random.Random, bytes, bytes], bytes]


def mutate(generator: random.Random, data: bytes, donor: bytes) -> bytes:
    """Break a file in one to four ways; half of the time, right its checksums and length, so that it gets far."""
    for mutator in generator.choices(MUTATORS, k=generator.choice((1, 1, 1, 2, 4))):
        data = mutator(generator, data, donor)
    return mend(data) if generator.random() < 0.5 else data


def mend(data: bytes) -> bytes:
    """Return the file with a PNG's checksums, or a WebP's length, as they must be."""
    media_type, parts = _walk(data)
    if media_type == PNG:
        bodies = ((data[part.start + 4 : part.body_end], part) for part in parts)
        chunks = (struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) for body, _ in bodies)
        return data[:8] + b"".join(chunks)
    if media_type == WEBP:
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    return data


def _walk(data: bytes) -> tuple[str | None, list[Part]]:
    """Return the media type and the parts as far as they can be walked."""
    media_type, parts = next((kind for kind, signature in SIGNATURES.items() if signature.match(data)), None), []
    try:
        for part in WALKS[media_type](data) if media_type else ():
            parts.append(part)
    except ImageRejected:
        pass
    return media_type, parts


def _place(generator: random.Random, data: bytes) -> int:
    """Return a position, in the first kilobyte as often as in all the rest: that is where the structure lies."""
    return generator.randrange(min(len(data), generator.choice((1024, len(data)))) or 1)


def _slice(generator: random.Random, data: bytes) -> tuple[int, int]:
    begin = _place(generator, data)
    return begin, min(len(data), begin + 1 + int(generator.expovariate(1 / generator.choice((4, 64, 1024)))))


def flip_bits(generator: random.Random, data: bytes, _: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 8, 64)) if data else 0):
        broken[_place(generator, data)] ^= 1 << generator.randrange(8)
    return bytes(broken)


def overwrite(generator: random.Random, data: bytes, _: bytes) -> bytes:
    position, new = _place(generator, data), generator.choice((*EXTREMES, generator.randbytes(3)))
    return data[:position] + new + data[position + len(new) :]


def drop(generator: random.Random, data: bytes, _: bytes) -> bytes:
    begin, end = _slice(generator, data)
    return data[:begin] + data[end:]


def repeat(generator: random.Random, data: bytes, _: bytes) -> bytes:
    begin, end = _slice(generator, data)
    return data[:end] + data[begin:end] * generator.choice((1, 1, 2, 50)) + data[end:]


def insert_noise(generator: random.Random, data: bytes, _: bytes) -> bytes:
    position = _place(generator, data)
    return data[:position] + generator.randbytes(generator.choice((1, 2, 4, 100))) + data[position:]


def splice(generator: random.Random, data: bytes, donor: bytes) -> bytes:
    begin, end = _slice(generator, donor)
    position = _place(generator, data)
    return data[:position] + donor[begin:end] + data[generator.choice((position, position + end - begin)) :]


def cut(generator: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: _place(generator, data)]


def end_early(generator: random.Random, data: bytes, _: bytes) -> bytes:
    position = _place(generator, data)
    return data[:position] + generator.choice((b"\xff\xd9", b"\0\0\0\0IEND\xaeB`\x82"))


def lie_about_length(generator: random.Random, data: bytes, _: bytes) -> bytes:
    media_type, parts = _walk(data)
    if not parts:
        return data
    offset, layout = LENGTHS[media_type]
    position, size = generator.choice(parts).start + offset, struct.calcsize(layout)
    length = int.from_bytes(data[position : position + size], "big" if layout[0] == ">" else "little")
    lie = generator.choice((0, 1, 2, length - 1, length + 1, length * 2, 256**size // 2, 256**size - 1))
    return data[:position] + struct.pack(layout, max(0, lie) % 256**size) + data[position + size :]


def rearrange(generator: random.Random, data: bytes, donor: bytes) -> bytes:
    """Drop, double, swap or transplant whole parts."""
    _, parts = _walk(data)
    pieces = [data[part.start : part.end] for part in parts]
    if not pieces:
        return data
    here, there = generator.randrange(len(pieces)), generator.randrange(len(pieces))
    foreign = [donor[part.start : part.end] for part in _walk(donor)[1]] or [b""]
    edits: Sequence[Sequence[bytes]] = (
        pieces[:here] + pieces[here + 1 :],
        [*pieces[:here], pieces[here], *pieces[here:]],
        [pieces[there if i == here else here if i == there else i] for i in range(len(pieces))],
        [*pieces[:here], generator.choice(foreign), *pieces[here:]],
        [*pieces[:here], *[pieces[here]] * 40, *pieces[here:]],
    )
    return data[: parts[0].start] + b"".join(generator.choice(edits)) + data[parts[-1].end :]


def break_inflated(generator: random.Random, data: bytes, donor: bytes) -> bytes:
    """Break what a PNG's chunk of pixels, or its profile, holds under its compression."""
    media_type, parts = _walk(data)
    packed = [part for part in parts if media_type == PNG and part.kind in INFLATED]
    if not packed:
        return data
    part = generator.choice(packed)
    begin = part.body + INFLATED[part.kind]
    try:
        inflated = zlib.decompressobj().decompress(data[begin : part.body_end], MAX_INFLATED_BYTES)
    except zlib.error:
        return data
    broken = generator.choice((flip_bits, overwrite, drop, repeat, cut))(generator, inflated, donor)
    body = data[part.start + 4 : begin] + zlib.compress(broken)
    return data[: part.start] + struct.pack(">I", len(body) - 4) + body + bytes(4) + data[part.end :]


MUTATORS: tuple[Mutator, ...] = (
    flip_bits,
    overwrite,
    drop,
    repeat,
    insert_noise,
    splice,
    cut,
    end_early,
    lie_about_length,
    rearrange,
    break_inflated,
)
