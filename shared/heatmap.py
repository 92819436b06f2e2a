"""Heatmaps and overlays of where the network looked, and their files, drawn from a map of a few float values.

The worker stores an overlay; the API draws others from the maps that are kept with the case.
"""

import functools
import io
import struct

import numpy as np
from isal import isal_zlib
from PIL import Image

from shared.image_containers import png_chunk

# Pixels of an overlay's longer side: enough to place a map of 7 x 7 cells on the lesion.
OVERLAY_SIDE = 512
# The class whose overlay is stored: the one that decides. The others are drawn from their maps when asked for.
OVERLAY_CLASS = "melanoma"
# Opacity of the heatmap where saliency is 1: low enough that the lesion stays visible under the hottest spot.
MAX_OPACITY = 0.6
_OPACITY_OF_LEVEL = [round(level * MAX_OPACITY) for level in range(256)]

# Heatmaps have coloured edges, which 4:2:0 would smear.
_OVERLAY_QUALITY, _EVERY_PIXEL_COLOURED = 90, 0

# The PNG specification (W3C, third edition): signature, filter type 2, bit depth, colour type 2.
_PNG_SIGNATURE, _PNG_UP, _PNG_BITS, _PNG_RGB = b"\x89PNG\r\n\x1a\n", 2, 8, 2
# The lowest level that looks for repeats; level 0, which does not, takes as long for a file a quarter larger.
_ISAL_LEVEL = 1

# Coefficients of x^0 to x^5 for red, green and blue: the polynomial approximation of Turbo by Ruofei Du, published with
# the colour map (Anton Mikhailov, "Turbo, An Improved Rainbow Colormap for Visualization", Google AI Blog, 2019;
# Apache-2.0). Unlike Jet it has no false edges: perceived lightness rises to the middle and falls again, smoothly.
_TURBO = np.array(
    [
        [0.13572138, 4.61539260, -42.66032258, 132.13108234, -152.94239396, 59.28637943],
        [0.09140261, 2.19418839, 4.84296658, -14.18503333, 4.27729857, 2.82956604],
        [0.10667330, 12.64194608, -60.58204836, 110.36276771, -89.90310912, 27.34824973],
    ]
)


def scale_to_saliency(activation_map: np.ndarray, scale: float) -> np.ndarray:
    """Return the share of the strongest usual activation: float32 (h, w) in [0, 1], `clip(map / scale)`.

    activation_map: raw Grad-CAM of one class, (h, w), >= 0, in the units of the logit. scale: > 0, in the same units, a
    constant of the model and the class. It is never the map's own maximum: a map stretched to its own maximum shows a
    hot spot on every harmless lesion.
    """
    return np.clip(activation_map / scale, 0.0, 1.0).astype(np.float32)


def fit_overlay(size: tuple[int, int]) -> tuple[int, int]:
    """Return the size (width, height) in px of a photograph's overlay; a smaller photograph keeps its own."""
    factor = min(1.0, OVERLAY_SIDE / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def draw_heatmap(saliency: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Return the saliency, float32 (h, w) in [0, 1], upsampled to size (width, height) in pixels and coloured: RGB."""
    return _coloured(_upsampled(saliency, size))


def draw_overlay(photograph: Image.Image, saliency: np.ndarray) -> Image.Image:
    """Return the photograph (RGB) with the heatmap over it, the more opaque the higher the saliency.

    saliency: float32 (h, w) in [0, 1]. Where it is 0, the photograph's pixels stay exactly as they are, so nothing is
    coloured where the network did not look; where it is 1, they are covered to MAX_OPACITY.
    """
    levels = _upsampled(saliency, photograph.size)
    return Image.composite(_coloured(levels), photograph, levels.point(_OPACITY_OF_LEVEL))


def encode_overlay(overlay: Image.Image) -> bytes:
    """Return the overlay (RGB) as it is stored: a JPEG, a sixth of a PNG's size, with a mean error of 1 in 255."""
    file = io.BytesIO()
    options = {"quality": _OVERLAY_QUALITY, "subsampling": _EVERY_PIXEL_COLOURED, "icc_profile": None, "comment": b""}
    overlay.save(file, "JPEG", **options)
    return file.getvalue()


def overlay_as_png(stored: bytes) -> bytes:
    """Return a stored overlay as a PNG file; earlier versions stored PNG files."""
    if stored.startswith(_PNG_SIGNATURE):
        return stored
    return encode_png(Image.open(io.BytesIO(stored), formats=("JPEG",)))


def encode_png(image: Image.Image) -> bytes:
    """Return the image (RGB) as a PNG file without metadata.

    Every row is coded as its difference from the one above ("up") and deflated by ISA-L. That takes a sixth of the time
    of Pillow's encoder, which tries five codings for each row, and makes a file that is a sixth larger.
    """
    rows = np.asarray(image).reshape(image.height, -1)
    coded = np.empty((image.height, 1 + rows.shape[1]), np.uint8)
    coded[:, 0] = _PNG_UP
    coded[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=coded[1:, 1:])
    header = struct.pack(">IIBBBBB", *image.size, _PNG_BITS, _PNG_RGB, 0, 0, 0)
    pixels = isal_zlib.compress(coded, _ISAL_LEVEL)
    return _PNG_SIGNATURE + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")


def upsample(activation_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map, float32 (h, w), upsampled to float32 (height, width): bicubic between the centres of its cells.

    Bicubic overshoots: beside a high cell, values fall below the lowest cell's.
    """
    return np.asarray(Image.fromarray(activation_map).resize(size, Image.Resampling.BICUBIC))


def _upsampled(saliency: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Return the upsampled map in mode L, 0 to 255, with the overshoot clipped."""
    return Image.fromarray((np.clip(upsample(saliency, size), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))


def _coloured(levels: Image.Image) -> Image.Image:
    coloured = levels.copy()
    coloured.putpalette(_turbo_table())
    return coloured.convert("RGB")


@functools.cache
def _turbo_table() -> bytes:
    """Return Turbo at 256 even steps, three bytes each: dark blue over green to dark red."""
    powers = np.linspace(0.0, 1.0, 256)[:, None] ** np.arange(6)
    return (np.clip(powers @ _TURBO.T, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8).tobytes()
