"""Folds split each class evenly, but never a lesion, a patient or two copies of one photograph."""

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

import deploy
from shared.errors import InputUnusable
from tests import images
from tests.worker.training.data import coloured_images
from worker.training.folds import NEAR_DUPLICATE_BITS, assign_folds, join_groups, near_duplicates, perceptual_hashes

SAMPLES = Path(deploy.__file__).parent / "samples"


def test_each_class_is_split_evenly_and_the_same_way_for_the_same_seed():
    data = coloured_images(n=60, side=64)
    folds = assign_folds(data, 4, seed=3)
    for label in range(3):
        assert np.bincount(folds[data.labels.numpy() == label]).tolist() == [5, 5, 5, 5]
    assert np.array_equal(folds, assign_folds(data, 4, seed=3))
    assert not np.array_equal(folds, assign_folds(data, 4, seed=4))


def test_what_belongs_together_stays_together():
    data = coloured_images(n=60, side=64)
    groups = tuple(f"lesion {number // 6}" for number in range(60))
    folds = assign_folds(replace(data, groups=groups), 5, seed=0)
    assert all(len(set(folds[start : start + 6])) == 1 for start in range(0, 60, 6))
    assert len(set(folds)) == 5


def test_copies_join_the_groups_that_they_are_in():
    data = coloured_images(n=9, side=64)
    pixels = data.pixels.clone()
    pixels[5], pixels[8] = pixels[2], pixels[2]
    joined = join_groups(replace(data, pixels=pixels, groups=("a", "a", "b", "c", "c", "c", "d", "e", "f")))
    assert joined[2] == joined[5] == joined[3] == joined[8]
    assert len({joined[0], joined[2], joined[6], joined[7]}) == 4


@pytest.mark.parametrize("change", ["darker", "smaller", "recompressed", "bleached"])
def test_an_altered_copy_of_a_photograph_is_found_and_another_photograph_is_not(change):
    photograph, other = (Image.open(SAMPLES / f"ISIC_00000{number}.jpg").resize((256, 256)) for number in (17, 29))
    guise = {
        "darker": lambda: ImageEnhance.Brightness(photograph).enhance(0.7),
        "smaller": lambda: photograph.resize((150, 150)).resize((256, 256)),
        "recompressed": lambda: Image.open(io.BytesIO(images.encode(photograph, "JPEG", quality=20))),
        "bleached": lambda: ImageEnhance.Color(photograph).enhance(0.4),
    }[change]()
    hashes = perceptual_hashes(np.stack([np.asarray(image.convert("RGB")) for image in (photograph, guise, other)]))
    assert near_duplicates(hashes, NEAR_DUPLICATE_BITS).tolist() == [[0, 1]]


def test_distances_are_counted_in_bits():
    hashes = np.array([[0, 0], [0b111, 0], [0b111, 1], [0, 2**64 - 1]], dtype=np.uint64)
    assert near_duplicates(hashes, 3).tolist() == [[0, 1], [1, 2]]
    assert near_duplicates(hashes, 4).tolist() == [[0, 1], [0, 2], [1, 2]]


def test_a_class_that_is_too_small_is_named():
    data = coloured_images(n=9, side=64)
    with pytest.raises(InputUnusable, match="melanoma has 3 lesions or patients; 4 folds"):
        assign_folds(data, 4, seed=0)
