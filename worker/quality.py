"""Whether a photograph is good enough to be read: too dark, too bright, blurred, no lesion in view, hairy.

The limits lie between the squashed frames of ISIC-2017's training images and degraded ones of its validation images.
They are loose for dark skin, of which those images show little.
"""

import numpy as np

from shared.errors import ImageRejected
from worker.cleaning import darkest_channel, find_hairs

NOT_DERMOSCOPIC = "not_dermoscopic"
"""The warning that comes from the network's features: see `worker/familiarity.py`."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

# Mean luma, 0 to 255: 87 in the darkest of those images; with a quarter of their light at most 51, with a tenth 20.
_DARK, _BLACK = 50, 20
# Share of pixels with all channels at 250 or more: at most 0.08 in those; at least 0.29 with three times their light.
_WHITE_LEVEL, _GLARE, _BLOWN_OUT = 250, 0.15, 0.5
# `sharpness`: 0.32 in the least sharp of those images; at most 0.30 after a Gaussian blur of 4 px or more. Even strong
# blur only causes a warning: a smooth lesion on smooth skin measures the same.
_BLURRED = 0.31
# `contrast`: 0.035 in the plainest of 150 validation images; half of 43 pictures of plain skin lie below that.
_EVEN = 0.03
_CELL = 16
# Share of the frame covered by hairs or other dark lines: at most 0.2 in 99% of ISIC-2017's training images. The limit
# on features leaves 1% outside, too, so that 2% of sound dermoscopy are to be expected with a warning.
_HAIRY = 0.2


def inspect_frame(frame: np.ndarray) -> tuple[str, ...]:
    """Return the warnings about a squashed frame, uint8 (256, 256, 3).

    They are `dark`, `glare`, `blurred`, `no_lesion_in_view` and `hairy`.

    Raises:
        ImageRejected: `image_dark`, `image_overexposed`: nothing can be recognised in it.
    """
    luma = frame @ _LUMA
    brightness, white = luma.mean(), (darkest_channel(frame) >= _WHITE_LEVEL).mean()
    if brightness < _BLACK:
        raise ImageRejected("image_dark", "The photograph is nearly black. Take it again with more light.")
    if white > _BLOWN_OUT:
        raise ImageRejected(
            "image_overexposed",
            "More than half of the photograph is pure white. Take it again with less light and without flash.",
        )
    found = {
        "dark": brightness < _DARK,
        "glare": white > _GLARE,
        "blurred": sharpness(luma) < _BLURRED,
        "no_lesion_in_view": contrast(luma) < _EVEN,
        "hairy": find_hairs(frame).mean() > _HAIRY,
    }
    return tuple(code for code, is_so in found.items() if is_so)


def sharpness(luma: np.ndarray) -> float:
    """Return the mean step between neighbouring pixels of luma (side, side) over that in a copy a quarter as wide.

    Without fine structure, a step at full size is a quarter of one in the copy: blurred pictures are near 0.25 whatever
    they show, and a picture's own contrast cancels. 1 for a uniform picture.
    """
    coarse = _step(_halve(_halve(luma)))
    return float(_step(luma) / coarse) if coarse else 1.0


def contrast(luma: np.ndarray) -> float:
    """Return the standard deviation of log luma (256, 256) between cells of 16 px: light and shade, not texture."""
    cells = luma.reshape(len(luma) // _CELL, _CELL, -1, _CELL).mean(axis=(1, 3))
    return float(np.log(cells + 8).std())  # 8 of 255: contrast in near-black does not count


def _halve(luma: np.ndarray) -> np.ndarray:
    return (luma[0::2, 0::2] + luma[1::2, 0::2] + luma[0::2, 1::2] + luma[1::2, 1::2]) / 4


def _step(luma: np.ndarray) -> np.ndarray:
    return np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
