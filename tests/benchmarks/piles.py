"""The photographs that everybody gets: the shipped samples, small copies and very large ones of them."""

from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

from PIL import Image, ImageChops

from deploy.commands.demo import SAMPLES

FULL_SIZE, SMALL_SIZE, LARGE_SIZE = "full resolution", "256 pixels", "24 megapixels"
"""The piles' names."""

SMALL = (256, 256)
LARGE = (6000, 4000)
"""Pixels: what a small web copy has, and a camera of 24 megapixels."""
_QUALITY = 90
_GRAIN = 4
"""Grey levels (standard deviation) of the noise that an enlargement lacks: with it a file has a camera's 5 MB."""

FULL = tuple(sorted(SAMPLES.glob("*.jpg")))
"""Of about 1500 x 1130 pixels."""


def repeat(photographs: Sequence[Path], count: int) -> Sequence[Path]:
    """Return this many photographs, each of the given ones in turn."""
    return tuple(islice(cycle(photographs), count))


def resized(folder: Path, size: tuple[int, int]) -> Sequence[Path]:
    """Write copies of the samples in this size, (width, height) in pixels, into the folder, and return them."""
    folder.mkdir()
    copies = [folder / sample.name for sample in FULL]
    grain = Image.merge("RGB", 3 * [Image.effect_noise(size, _GRAIN)])
    for sample, copy in zip(FULL, copies, strict=True):
        with Image.open(sample) as image:
            smooth = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
            enlarged = size > image.size
        made = ImageChops.add(smooth, grain, offset=-128) if enlarged else smooth
        made.save(copy, "JPEG", quality=_QUALITY)
    return copies
