"""A heatmap outside the lesion is told from one on it, and from one too pale to be seen."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from worker.lesion import guess_lesion, lies_off_lesion

SIDE = 224
SKIN, BROWN = (224, 178, 160), (120, 70, 50)


def lesion_at(left: int, top: int, width: int, corners: bool = False) -> np.ndarray:
    """Return skin with a brown disc, with a dermoscope's dark corners if wanted."""
    image = Image.new("RGB", (SIDE, SIDE), (0, 0, 0) if corners else SKIN)
    draw = ImageDraw.Draw(image)
    draw.ellipse((0, 0, SIDE, SIDE), fill=SKIN)
    draw.ellipse((left, top, left + width, top + width), fill=BROWN)
    return np.asarray(image)


def heatmap(row: int, column: int, strength: float = 1.0) -> np.ndarray:
    cells = np.zeros((7, 7), np.float32)
    cells[row, column] = strength
    return cells


@pytest.mark.parametrize("corners", [False, True])
def test_the_lesion_is_found_by_its_colour_even_between_dark_corners(corners):
    found = guess_lesion(lesion_at(64, 96, 70, corners))
    rows, columns = np.nonzero(found)
    scale = SIDE / found.shape[0]
    assert (columns.mean() * scale, rows.mean() * scale) == pytest.approx((99, 131), abs=4)
    margin = 2 * scale
    assert found.sum() * scale**2 == pytest.approx(np.pi * (35 + margin) ** 2, rel=0.15)


def test_a_heatmap_on_the_lesion_passes_and_one_outside_it_does_not():
    pixels = lesion_at(80, 80, 64)
    assert not lies_off_lesion(pixels, heatmap(3, 3))
    assert lies_off_lesion(pixels, heatmap(0, 6))


def test_a_pale_or_blank_heatmap_passes_wherever_it_lies():
    pixels = lesion_at(80, 80, 64)
    assert not lies_off_lesion(pixels, heatmap(0, 6, 0.2))
    assert not lies_off_lesion(pixels, heatmap(0, 6, 0.0))


def test_a_heatmap_with_a_third_on_the_lesion_passes():
    assert not lies_off_lesion(lesion_at(80, 80, 64), heatmap(0, 0, 0.6) + heatmap(3, 3, 0.4))
    assert lies_off_lesion(lesion_at(80, 80, 64), heatmap(0, 0, 0.9) + heatmap(3, 3, 0.1))


def test_a_photograph_without_any_contrast_has_a_guess_and_no_error():
    assert guess_lesion(np.full((SIDE, SIDE, 3), 128, np.uint8)).shape == (64, 64)
