"""Changes to a photograph that must not affect a diagnosis: light, distance, focus, compression, hair, a ruler.

For corruption robustness, as Hendrycks and Dietterich 2019 (arXiv 1903.12261) measure it on everyday photographs. Each
is a function of an RGB image of `TRAINING_SIDE` (256 px) and a random generator; all sizes in px are at that side.
"""

from collections.abc import Callable
from functools import partial
from io import BytesIO

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

Change = Callable[[Image.Image, Generator], Image.Image]

# How a camera balanced for daylight of 6500 K records light 46 mired warmer (CIE D50) or cooler (9300 K): gains of red,
# green and blue in linear sRGB.
_WARM, _COOL = (1.176, 0.976, 0.722), (0.847, 1.011, 1.342)
_SHIFT = 0.15  # of the side
_BLUR_PX = 2.0  # standard deviation
_JPEG_QUALITY = 30
_HAIRS = 12
_HAIR_PX = (0.8, 2.0)
_TICKS = 40
_TICK_LENGTHS_PX = (8, 16)  # every fifth is a long one
_FINE = 4  # lines are drawn this many times larger and reduced, so that they are smooth and may be thinner than a px


def disturb(image: Image.Image, image_id: str, change: Change, seed: int = 0) -> Image.Image:
    """Return the image (RGB, `TRAINING_SIDE`) after a change; its random draws depend only on its id and the seed."""
    return change(image, np.random.default_rng([seed, *image_id.encode()]))


def _brighten(factor: float, image: Image.Image, rng: Generator) -> Image.Image:
    return ImageEnhance.Brightness(image).enhance(factor)


def _stretch_contrast(factor: float, image: Image.Image, rng: Generator) -> Image.Image:
    return ImageEnhance.Contrast(image).enhance(factor)


def _relight(gains: tuple[float, float, float], image: Image.Image, rng: Generator) -> Image.Image:
    levels = np.arange(256) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    lit = np.clip(np.outer(gains, linear), 0, 1)
    shown = np.where(lit <= 0.0031308, lit * 12.92, 1.055 * lit ** (1 / 2.4) - 0.055)
    return image.point(np.rint(shown * 255).astype(int).ravel().tolist())


def _scale(factor: float, image: Image.Image, rng: Generator) -> Image.Image:
    return _frame(image, factor, (0, 0))


def _shift(image: Image.Image, rng: Generator) -> Image.Image:
    angle = rng.uniform(0, 2 * np.pi)
    return _frame(image, 1, (np.cos(angle) * _SHIFT * image.width, np.sin(angle) * _SHIFT * image.height))


def _rotate(image: Image.Image, rng: Generator) -> Image.Image:
    turned = _surrounded(image).rotate(rng.uniform(0, 360), Image.Resampling.BICUBIC)
    return turned.crop(_middle(image))


def _frame(image: Image.Image, scale: float, offset: tuple[float, float]) -> Image.Image:
    """Return what a camera would see at `scale` times the magnification, pointed `offset` px off the middle."""
    left, top, right, bottom = _middle(image)
    centre = (left + right) / 2 + offset[0], (top + bottom) / 2 + offset[1]
    half = image.width / 2 / scale, image.height / 2 / scale
    box = centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1]
    return _surrounded(image).resize(image.size, Image.Resampling.BICUBIC, box)


def _surrounded(image: Image.Image) -> Image.Image:
    """Return the image padded on every side by half its size with its own reflection: there is no more skin to show."""
    half = image.height // 2, image.width // 2
    return Image.fromarray(np.pad(np.asarray(image), (*((n, n) for n in half), (0, 0)), mode="reflect"))


def _middle(image: Image.Image) -> tuple[int, int, int, int]:
    """Return where the image lies within its padding."""
    left, top = image.width // 2, image.height // 2
    return left, top, left + image.width, top + image.height


def _blur(image: Image.Image, rng: Generator) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(_BLUR_PX))


def _compress(image: Image.Image, rng: Generator) -> Image.Image:
    file = BytesIO()
    image.save(file, "JPEG", quality=_JPEG_QUALITY)
    return Image.open(file).convert("RGB")


def _grow_hairs(image: Image.Image, rng: Generator) -> Image.Image:
    """Draw dark, slightly bent hairs (quadratic Bézier curves) that cross the frame."""
    along = np.linspace(0, 1, 40)[:, None]
    for _ in range(_HAIRS):
        angle, middle = rng.uniform(0, 2 * np.pi), rng.uniform(0.2, 0.8, 2)
        reach = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.2, 0.6)
        bend = middle + rng.normal(0, 0.1, 2)
        points = (1 - along) ** 2 * (middle - reach) + 2 * along * (1 - along) * bend + along**2 * (middle + reach)
        shade = int(rng.integers(20, 70))
        image = _draw_lines(image, [points], rng.uniform(*_HAIR_PX), (shade, int(shade * 0.8), int(shade * 0.7)))
    return image


def _lay_ruler(image: Image.Image, rng: Generator) -> Image.Image:
    """Draw a ruler's black marks along one of the four sides."""
    at = (np.arange(_TICKS) + 0.5) / _TICKS
    lengths = np.where(np.arange(_TICKS) % 5, *_TICK_LENGTHS_PX) / image.width
    ticks = [np.array([(x, 0.02), (x, 0.02 + length)]) for x, length in zip(at, lengths, strict=True)]
    turn = int(rng.integers(4))
    for _ in range(turn):
        ticks = [np.stack([1 - tick[:, 1], tick[:, 0]], axis=1) for tick in ticks]
    return _draw_lines(image, ticks, 1.5, (25, 25, 25))


def _draw_lines(image: Image.Image, lines: list[np.ndarray], width_px: float, colour: tuple) -> Image.Image:
    """Draw lines, each of points (n, 2) in shares of the image's width and height."""
    fine = image.width * _FINE, image.height * _FINE
    mask = Image.new("L", fine)
    draw = ImageDraw.Draw(mask)
    for line in lines:
        draw.line([tuple(point) for point in line * fine], fill=255, width=round(width_px * _FINE), joint="curve")
    return Image.composite(Image.new("RGB", image.size, colour), image, mask.reduce(_FINE))


DISTURBANCES: dict[str, Change] = {
    "nothing": lambda image, rng: image,
    "brightness -30 %": partial(_brighten, 0.7),
    "brightness +30 %": partial(_brighten, 1.3),
    "light of 5000 K": partial(_relight, _WARM),
    "light of 9300 K": partial(_relight, _COOL),
    "contrast -30 %": partial(_stretch_contrast, 0.7),
    "contrast +30 %": partial(_stretch_contrast, 1.3),
    "scale 0.6": partial(_scale, 0.6),
    "scale 1.4": partial(_scale, 1.4),
    f"shift {_SHIFT:.0%} of the side": _shift,
    f"blur {_BLUR_PX:g} px": _blur,
    f"JPEG quality {_JPEG_QUALITY}": _compress,
    "rotation": _rotate,
    f"{_HAIRS} hairs": _grow_hairs,
    "ruler": _lay_ruler,
}
"""What is measured, by name. `nothing` shows what the measurement itself costs: a second pass through the JPEG."""
