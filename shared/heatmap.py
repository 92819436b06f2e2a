"""Drawings of where the network looked: heatmaps, overlays and their PNG files, from a map of a few float values.

The worker stores an overlay; the API draws the same again from the map that is kept with the case.
"""

import functools
import io
import zlib

import numpy as np
from PIL import Image

# Pixels of an overlay's longer side: enough to place a map of 7 x 7 cells on the lesion.
OVERLAY_SIDE = 512
# The class whose overlay is stored: the one that decides. The others are drawn from their maps when asked for.
OVERLAY_CLASS = "melanoma"
# Opacity of the heatmap where saliency is 1. Below it the lesion stays visible under the hottest spot.
MAX_OPACITY = 0.6
_OPACITY_OF_LEVEL = [round(level * MAX_OPACITY) for level in range(256)]

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


def saliency(activation_map: np.ndarray, scale: float) -> np.ndarray:
    """Return the share of the strongest usual activation: float32 (h, w) in [0, 1], `clip(map / scale)`.

    activation_map: raw Grad-CAM of one class, (h, w), >= 0, in the units of the logit. scale: > 0, in the same units, a
    constant of the model and the class. It is never the map's own maximum: a map stretched to its own maximum shows a
    hot spot on every harmless lesion.
    """
    return np.clip(activation_map / scale, 0.0, 1.0).astype(np.float32)


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


def encode_png(image: Image.Image) -> bytes:
    """Return the image as a PNG file without metadata.

    Huffman coding alone: filtered photographs hold few repeats, so the search for them costs time and saves nothing.
    """
    file = io.BytesIO()
    image.save(file, "PNG", compress_type=zlib.Z_HUFFMAN_ONLY, icc_profile=None)
    return file.getvalue()


def upsample(activation_map: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return a map, float32 (h, w), at size (width, height): bicubic between its cells' centres, as all are drawn.

    Float32 (height, width). It overshoots: beside a high cell it falls below the lowest.
    """
    return np.asarray(Image.fromarray(activation_map).resize(size, Image.Resampling.BICUBIC))


def _upsampled(saliency: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Return mode L, 0 to 255, the overshoot clipped."""
    return Image.fromarray((np.clip(upsample(saliency, size), 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8))


def _coloured(levels: Image.Image) -> Image.Image:
    return Image.fromarray(_turbo_table()[np.asarray(levels)])


@functools.cache
def _turbo_table() -> np.ndarray:
    """Return Turbo at 256 even steps: uint8 (256, 3), dark blue over green to dark red."""
    powers = np.linspace(0.0, 1.0, 256)[:, None] ** np.arange(6)
    table = (np.clip(powers @ _TURBO.T, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
    table.flags.writeable = False
    return table
