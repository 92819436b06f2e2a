"""Paints hairs and reflections over with the skin beside them, for a baseline that wants to know whether that helps.

DullRazor (Lee et al. 1997, Computers in Biology and Medicine 27:533), in its steps: what a closing fills is dark and
narrow, what is long among it is hair, and its neighbours take its place.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

# In frames of 256 px, where hairs are 1 to 4 px wide, and levels of 255. Set by eye on training images.
_WIDTH_PX = 7
_HAIR_LEVELS = 20
_HAIR_LENGTH_PX = 24
_SPOT_PX = 11
_SPOT_LEVELS = 50
_SPOT_BRIGHTNESS = 200

_DIAGONAL = np.eye(_WIDTH_PX, dtype=bool)
_LINES = (np.ones((1, _WIDTH_PX), bool), np.ones((_WIDTH_PX, 1), bool), _DIAGONAL, _DIAGONAL[::-1])
_TOUCHING = np.ones((3, 3), bool)


def clean_frames(pixels: Tensor) -> Tensor:
    """Return frames, uint8 (n, 256, 256, 3), without hairs and reflections."""
    with ThreadPoolExecutor() as pool:
        return torch.from_numpy(np.stack(list(pool.map(clean_frame, pixels.numpy()))))


def clean_frame(frame: np.ndarray) -> np.ndarray:
    """Return a squashed frame, uint8 (256, 256, 3), with what `find_hairs` and `find_reflections` find painted over."""
    covered = ndimage.binary_dilation(find_hairs(frame) | find_reflections(frame), _TOUCHING)
    if not covered.any() or covered.all():
        return frame
    nearest = ndimage.distance_transform_edt(covered, return_distances=False, return_indices=True)
    filled = frame[tuple(nearest)]
    smooth = ndimage.gaussian_filter(filled, (2, 2, 0))
    return np.where(covered[..., None], smooth, frame)


def find_hairs(frame: np.ndarray) -> np.ndarray:
    """Return where a frame, uint8 (h, w, 3), shows dark lines, bool (h, w).

    In red alone: vessels are hardly seen in it, and pigment less than hairs.
    """
    red = frame[..., 0]
    closed = np.max([ndimage.grey_closing(red, footprint=line) for line in _LINES], axis=0)
    parts, _ = ndimage.label(closed - red >= _HAIR_LEVELS, _TOUCHING)  # a closing never darkens
    spans = [max(down.stop - down.start, across.stop - across.start) for down, across in ndimage.find_objects(parts)]
    return np.array([False, *(span >= _HAIR_LENGTH_PX for span in spans)])[parts]


def find_reflections(frame: np.ndarray) -> np.ndarray:
    """Return where a frame, uint8 (h, w, 3), has small spots that are much brighter in every colour, bool (h, w)."""
    grey = frame.min(axis=2)
    return (grey - ndimage.grey_opening(grey, _SPOT_PX) >= _SPOT_LEVELS) & (grey >= _SPOT_BRIGHTNESS)
