"""Whether a photograph is good enough to be read, by its pixels: too dark, too bright, blurred, nothing in view, hairy.

The limits were set on the squashed frames of ISIC-2017's training images, and of its validation images made worse: they
lie between both. They are loose where skin is dark, of which those images show little.
"""

import numpy as np

from shared.errors import ImageRejected
from worker.cleaning import darkest_channel, find_hairs

NOT_DERMOSCOPIC = "not_dermoscopic"
"""The warning that the network's features give: see `worker/familiarity.py`."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601

# Mean luma, 0 to 255: 87 in the darkest of those; at a quarter of their light at most 51, at a tenth 20.
_DARK, _BLACK = 50, 20
# Share of pixels whose every channel is 250 or more: at most 0.08 in those; at three times their light at least 0.29.
_WHITE_LEVEL, _GLARE, _BLOWN_OUT = 250, 0.15, 0.5
# Sharpness as below: 0.32 in the least sharp of those; at most 0.30 behind a Gaussian blur of 4 px or more. Even a
# strong blur is only warned of: a smooth lesion on smooth skin measures the same.
_BLURRED = 0.31
# Contrast as below: 0.035 in the plainest of 150 validation images; half of 43 pictures of plain skin lie under it.
_EVEN = 0.03
_CELL = 16
# Share that hairs, or other dark lines, cover: at most 0.12 in 98 of 100 of ISIC-2017's training images.
_HAIRY = 0.12


def inspect_frame(frame: np.ndarray) -> tuple[str, ...]:
    """Return the warnings about a squashed frame, uint8 (256, 256, 3).

    They are `dark`, `glare`, `blurred`, `no_lesion_in_view` and `hairy`.

    Raises:
        ImageRejected: `image_dark`, `image_overexposed`: nothing can be told from it.
    """
    luma = frame @ _LUMA
    brightness, white = luma.mean(), (darkest_channel(frame) >= _WHITE_LEVEL).mean()
    if brightness < _BLACK:
        raise ImageRejected("image_dark", "The photograph is nearly black. Take it again with more light.")
    if white > _BLOWN_OUT:
        raise ImageRejected(
            "image_overexposed",
            "More than half of the photograph is pure white. Take it again with less light, and without flash.",
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
    """Return the mean step between neighbours over that in a copy of a quarter of the side; a plain picture's is 1.

    Of luma (side, side). Where there is no fine structure, a step at full size is a quarter of one in the copy: blurred
    pictures are near 0.25 whatever they show, and a picture's own contrast cancels.
    """
    coarse = _step(_halve(_halve(luma)))
    return float(_step(luma) / coarse) if coarse else 1.0


def contrast(luma: np.ndarray) -> float:
    """Return the deviation of the logarithm of luma (256, 256) between cells of 16 px: light or shade, not texture."""
    cells = luma.reshape(len(luma) // _CELL, _CELL, -1, _CELL).mean(axis=(1, 3))
    return float(np.log(cells + 8).std())  # 8 of 255: what is nearly black has no contrast that counts


def _halve(luma: np.ndarray) -> np.ndarray:
    return (luma[0::2, 0::2] + luma[1::2, 0::2] + luma[0::2, 1::2] + luma[1::2, 1::2]) / 4


def _step(luma: np.ndarray) -> np.ndarray:
    return np.abs(np.diff(luma, axis=0)).mean() + np.abs(np.diff(luma, axis=1)).mean()
