"""Each disturbance does to a photograph what its name says, the same every time."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests import images
from worker.frame import TRAINING_SIDE
from worker.training.disturbances import DISTURBANCES, disturb

MIDDLE = TRAINING_SIDE / 2
RANDOM = {"shift 15% of the side", "rotation", "12 hairs", "ruler"}


def disturbed(name: str, image: Image.Image, image_id: str = "A") -> np.ndarray:
    return np.asarray(disturb(image, image_id, DISTURBANCES[name])).astype(float)


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (TRAINING_SIDE, TRAINING_SIDE), (level,) * 3)


def square(left: int, top: int, side: int) -> Image.Image:
    """Return a white square on black."""
    image = grey(0)
    ImageDraw.Draw(image).rectangle((left, top, left + side - 1, top + side - 1), fill=(255,) * 3)
    return image


def centre_and_area(pixels: np.ndarray) -> tuple[np.ndarray, float]:
    bright = pixels.mean(axis=2) / 255
    at = np.arange(TRAINING_SIDE) + 0.5
    return np.array([bright.sum(axis=0) @ at, bright.sum(axis=1) @ at]) / bright.sum(), bright.sum()


@pytest.mark.parametrize("name", DISTURBANCES)
def test_it_is_repeatable_keeps_the_size_and_changes_the_picture(name):
    image = images.lesion(TRAINING_SIDE, TRAINING_SIDE)
    first = disturbed(name, image)
    np.testing.assert_array_equal(first, disturbed(name, image))
    assert first.shape == (TRAINING_SIDE, TRAINING_SIDE, 3)
    assert (first == np.asarray(image)).all() == (name == "nothing")
    assert all((first == disturbed(name, image, other)).all() for other in "BCDE") == (name not in RANDOM)


def test_brightness_and_light_change_a_grey_as_worked_out_by_hand():
    assert disturbed("brightness -30 %", grey(100)).mean() == 70
    assert disturbed("brightness +30 %", grey(100)).mean() == 130
    # sRGB 128 is 0.2159 of the light: times 0.722 it is 0.1559, which is sRGB 110.
    assert disturbed("light of 5000 K", grey(128))[0, 0].tolist() == pytest.approx([138, 126, 110], abs=1)
    red, green, blue = disturbed("light of 9300 K", grey(128))[0, 0]
    assert red < green < blue


def test_contrast_moves_levels_away_from_the_mean_and_towards_it():
    half = grey(100)
    half.paste((200,) * 3, (0, 0, TRAINING_SIDE, TRAINING_SIDE // 2))
    assert np.unique(disturbed("contrast +30 %", half)).tolist() == [85, 215]
    assert np.unique(disturbed("contrast -30 %", half)).tolist() == [115, 185]


@pytest.mark.parametrize(("name", "factor"), [("scale 0.6", 0.6), ("scale 1.4", 1.4)])
def test_scale_makes_the_lesion_smaller_or_larger_in_place(name, factor):
    centre, area = centre_and_area(disturbed(name, square(98, 98, 60)))
    assert centre == pytest.approx((MIDDLE, MIDDLE), abs=0.1)
    assert area == pytest.approx((60 * factor) ** 2, rel=0.05)


def test_shift_and_rotation_keep_the_lesions_size_and_one_keeps_its_orientation_the_other_its_distance():
    centre, area = centre_and_area(disturbed("shift 15% of the side", square(108, 108, 40)))
    assert np.linalg.norm(centre - MIDDLE) == pytest.approx(0.15 * TRAINING_SIDE, rel=0.02)
    assert area == pytest.approx(1600, rel=0.05)
    centre, area = centre_and_area(disturbed("rotation", square(118, 60, 20)))
    assert np.linalg.norm(centre - MIDDLE) == pytest.approx(58, rel=0.02)
    assert abs(centre[0] - MIDDLE) > 1
    assert area == pytest.approx(400, rel=0.05)


def test_a_blur_spreads_an_edge_by_its_standard_deviation_of_two_pixels():
    column = disturbed("blur 2 px", square(0, 0, TRAINING_SIDE // 2))[50, :, 0] / 255
    slope = -np.diff(column)
    at = np.arange(len(slope))
    assert np.sqrt(slope @ (at - slope @ at) ** 2) == pytest.approx(2, rel=0.15)


def test_hairs_cross_the_picture_and_a_ruler_stays_at_one_side():
    hairy = disturbed("12 hairs", grey(200))
    assert 0.02 < (hairy < 150).all(axis=2).mean() < 0.15
    ruled = (disturbed("ruler", grey(200)) < 150).all(axis=2)
    rim = 24
    sides = (ruled[:rim], ruled[-rim:], ruled[:, :rim], ruled[:, -rim:])
    assert max(side.sum() for side in sides) == ruled.sum() > 300
