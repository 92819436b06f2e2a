"""How much of a heatmap lies on the lesion: worked out by hand on small maps and masks."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from shared.errors import InputUnusable
from tests.worker.training.data import MASK_SIDE, write_mask
from worker.training.figures import Readings
from worker.training.localisation import Heatmaps, Localisation, count_warnings, find_masks, measure_localisation


def readings_of(labels: list[int]) -> Readings:
    ids = np.array([f"image-{number}" for number in range(len(labels))])
    return Readings(ids, np.array(labels), np.full((len(labels), 3), 1 / 3), {})


def map_of(rows: slice, columns: slice) -> np.ndarray:
    cells = np.zeros((4, 4), np.float32)
    cells[rows, columns] = 3.0
    return cells


def measure(readings: Readings, maps: np.ndarray, masks: Path) -> list[Localisation]:
    return measure_localisation(readings, maps, find_masks(masks, readings.ids))


ALL, LEFT, RIGHT = slice(None), slice(0, 2), slice(2, 4)


@pytest.fixture
def masks(tmp_path) -> Path:
    """Of six images whose lesion is the left half."""
    for number in range(6):
        write_mask(tmp_path / f"image-{number}_segmentation.png", ALL, slice(0, MASK_SIDE // 2))
    return tmp_path


def test_energy_and_peak_are_given_by_diagnosis_and_blank_maps_do_not_count(masks):
    maps = np.stack(
        [
            map_of(ALL, LEFT),
            map_of(ALL, RIGHT),
            map_of(slice(0, 0), ALL),  # blank
            map_of(ALL, slice(0, 1)),
            map_of(ALL, slice(0, 1)),
            map_of(ALL, slice(3, 4)),
        ]
    )
    melanoma, nevus = measure(readings_of([0, 0, 0, 2, 2, 2]), maps, masks)
    assert (melanoma.diagnosis, melanoma.blank, melanoma.energy_inside.n) == ("melanoma", 1, 2)
    assert (melanoma.peak_inside.value, nevus.peak_inside.value) == (0.5, pytest.approx(2 / 3))
    assert melanoma.energy_inside.value == pytest.approx(0.5)  # one inside, one outside, equally strong
    assert nevus.energy_inside.value == pytest.approx(2 / 3, abs=0.03)
    assert nevus.lesion_share.value == 0.5


def test_a_warning_is_right_where_a_visible_heatmap_lies_off_the_lesion(masks):
    inside, outside = map_of(ALL, LEFT), map_of(ALL, RIGHT)
    maps = np.stack([inside, inside, outside, outside, outside, outside / 10])  # the last one is too pale to matter
    warned = np.array([False, True, True, True, False, True])
    readings = readings_of([0, 0, 0, 0, 2, 2])
    counted = count_warnings(readings, Heatmaps(maps, 3.0, warned), find_masks(masks, readings.ids))
    assert (counted.n, counted.warned, counted.right, counted.off_lesion) == (6, 4, 2, 3)


def test_the_best_energy_is_that_of_a_coarse_map_of_the_outline_itself(masks):
    (found,) = measure(readings_of([0]), map_of(ALL, LEFT)[None], masks)
    assert found.energy_inside.value == pytest.approx(found.best_energy.value)
    assert 0.9 < found.best_energy.value < 1  # what spreads over the edge is lost


def test_a_uniform_map_gets_the_lesions_share(masks):
    (found,) = measure(readings_of([0]), map_of(ALL, ALL)[None], masks)
    assert found.energy_inside.value == pytest.approx(found.lesion_share.value)


def test_a_mask_may_have_any_size_and_the_images_own_name(tmp_path):
    Image.fromarray(np.repeat([[255, 0]], 1, axis=0).astype(np.uint8)).resize((30, 20), 0).save(
        tmp_path / "image-0.png"
    )
    (found,) = measure(readings_of([2]), map_of(ALL, LEFT)[None], tmp_path)
    assert found.peak_inside.value == 1


def test_a_photograph_that_lies_beside_its_mask_is_not_taken_for_it(masks):
    for name in ("image-0.png", "image-1.jpg"):
        Image.new("RGB", (8, 8)).save(masks / name)
    assert {file.stem for file in find_masks(masks, ["image-0", "image-1"]).values()} == {
        f"image-{number}_segmentation" for number in range(6)
    }


def test_a_missing_mask_and_one_without_a_lesion_are_named(masks):
    with pytest.raises(InputUnusable, match="no mask for 1 images, such as image-6"):
        find_masks(masks, [f"image-{number}" for number in range(7)])
    write_mask(masks / "image-0_segmentation.png", slice(0, 0), ALL)
    with pytest.raises(InputUnusable, match=r"image-0_segmentation\.png shows no lesion"):
        measure(readings_of([0]), map_of(ALL, LEFT)[None], masks)
