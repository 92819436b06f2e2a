"""Paints hairs and reflections over with the skin beside them, so that a network reads the lesion under them.

DullRazor (Lee et al. 1997, Computers in Biology and Medicine 27:533), in its steps: what a closing fills is dark and
narrow, what is long among it is hair, and its neighbours take its place.
"""

from collections.abc import Callable
from functools import reduce

import numpy as np
from PIL import Image, ImageFilter
from scipy import ndimage

# In frames of 256 px, where hairs are 1 to 4 px wide, and levels of 255. Set by eye on training images.
_WIDTH_PX = 7
_HAIR_LEVELS = 20
_HAIR_LENGTH_PX = 24
_SPOT_PX = 11
_SPOT_LEVELS = 50
_SPOT_BRIGHTNESS = 200
_SMOOTHING_PX = 2

_Choose = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""`np.minimum` or `np.maximum`."""

_DOWN, _ACROSS, _SLANTING = (1, 0), (0, 1), (1, 1)
_TOUCHING = np.ones((3, 3), bool)


def clean_frame(frame: np.ndarray) -> np.ndarray:
    """Return a squashed frame, uint8 (256, 256, 3), with what `find_hairs` and `find_reflections` find painted over."""
    covered = find_hairs(frame) | find_reflections(frame)
    if not covered.any():
        return frame
    covered = _extreme_around(np.maximum, covered, 3)
    nearest = ndimage.distance_transform_edt(covered, return_distances=False, return_indices=True)
    cleaned = frame.copy()
    cleaned[covered] = frame[tuple(nearest[:, covered])]
    smooth = Image.fromarray(cleaned).filter(ImageFilter.GaussianBlur(_SMOOTHING_PX))
    cleaned[covered] = np.asarray(smooth)[covered]
    return cleaned


def find_hairs(frame: np.ndarray) -> np.ndarray:
    """Return where a frame, uint8 (h, w, 3), shows dark lines, bool (h, w).

    In red alone: vessels are hardly seen in it, and pigment less than hairs.
    """
    red = np.ascontiguousarray(frame[..., 0])
    straight = [_close(red, direction) for direction in (_DOWN, _ACROSS, _SLANTING)]
    closed = reduce(np.maximum, [*straight, _close(red[::-1], _SLANTING)[::-1]])
    parts, _ = ndimage.label(closed - red >= _HAIR_LEVELS, _TOUCHING)  # a closing never darkens
    spans = [max(down.stop - down.start, across.stop - across.start) for down, across in ndimage.find_objects(parts)]
    return np.array([False, *(span >= _HAIR_LENGTH_PX for span in spans)])[parts]


def find_reflections(frame: np.ndarray) -> np.ndarray:
    """Return where a frame, uint8 (h, w, 3), has small spots that are much brighter in every colour, bool (h, w)."""
    grey = darkest_channel(frame)
    if not (grey >= _SPOT_BRIGHTNESS).any():
        return np.zeros(grey.shape, bool)
    opened = _extreme_around(np.maximum, _extreme_around(np.minimum, grey, _SPOT_PX), _SPOT_PX)
    return (grey - opened >= _SPOT_LEVELS) & (grey >= _SPOT_BRIGHTNESS)


def darkest_channel(frame: np.ndarray) -> np.ndarray:
    """Return each pixel's least value, uint8 (h, w), in a tenth of the time that `min(axis=2)` takes."""
    return reduce(np.minimum, np.moveaxis(frame, 2, 0))


def _close(plane: np.ndarray, direction: tuple[int, int]) -> np.ndarray:
    return _extreme(np.minimum, _extreme(np.maximum, plane, direction, _WIDTH_PX), direction, _WIDTH_PX)


def _extreme_around(choose: _Choose, plane: np.ndarray, side: int) -> np.ndarray:
    """Return the largest or smallest value in a square of `side` px, an odd number, around each place of a plane."""
    return _extreme(choose, _extreme(choose, plane, _DOWN, side), _ACROSS, side)


def _extreme(choose: _Choose, plane: np.ndarray, direction: tuple[int, int], length: int) -> np.ndarray:
    """Return the largest or smallest value along a line of `length` px, an odd number, around each place of a plane.

    In steps that double the line (for 7 px: 2, 4, 7): a sixth of the time that `scipy.ndimage`'s filters take.
    """
    down, across = direction
    half, reach = length // 2, 1
    found = np.pad(plane, ((half * down,) * 2, (half * across,) * 2), mode="edge")
    while reach < length:
        step = min(reach, length - reach)
        height, width = found.shape
        found = choose(found[: height - step * down, : width - step * across], found[step * down :, step * across :])
        reach += step
    return found
