"""Hairs and reflections are found where they were drawn, and replaced by what was there before."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deploy
from worker.cleaning import clean_frame, find_hairs, find_reflections
from worker.training.disturbances import DISTURBANCES

SAMPLES = Path(deploy.__file__).parent / "samples"


@pytest.fixture
def skin() -> np.ndarray:
    """A smooth frame with a broad dark lesion in its middle, uint8 (256, 256, 3)."""
    down, across = np.mgrid[:256, :256]
    spot = np.exp(-(((down - 128) / 40) ** 2 + ((across - 128) / 40) ** 2))[..., None]
    return ([205, 160, 140] - spot * [110, 100, 90]).round().astype(np.uint8)


@pytest.mark.parametrize("hair", [np.s_[30:220, 60:63], np.s_[128:130, 10:240]], ids=["beside", "across the lesion"])
def test_a_hair_is_found_and_the_skin_under_it_comes_back(skin, hair):
    hairy = skin.copy()
    hairy[hair] = (35, 30, 25)
    drawn = np.zeros((256, 256), bool)
    drawn[hair] = True
    assert np.array_equal(find_hairs(hairy), drawn)
    cleaned = clean_frame(hairy).astype(int)
    assert np.abs(cleaned - skin)[drawn].max() <= 12
    near = np.abs(cleaned - hairy).max(axis=2) > 0
    assert near.sum() < 3 * drawn.sum()  # nothing is touched but the hair and a rim of one pixel


def test_a_slanting_hair_is_found_even_if_it_is_wide(skin):
    hairy, steps = skin.copy(), np.arange(20, 230)
    for beside in range(7):  # 7 px across, which is 5 px from rim to rim
        hairy[steps, steps + beside] = (35, 30, 25)
    assert find_hairs(hairy)[steps, steps + 3].mean() > 0.95


def test_lesions_and_short_marks_are_not_taken_for_hairs(skin):
    assert not find_hairs(skin).any()
    dotted = skin.copy()
    for place in range(40, 220, 20):
        dotted[place : place + 4, place : place + 4] = (40, 30, 25)
    assert not find_hairs(dotted).any()
    assert clean_frame(dotted) is dotted


def test_a_vessel_that_red_light_does_not_show_stays(skin):
    vessel = skin.copy()
    vessel[30:220, 60:63, 1:] -= 70
    assert not find_hairs(vessel).any()


def test_reflections_are_painted_over_and_broad_light_is_not(skin):
    shiny = skin.copy()
    shiny[60:64, 100:105] = shiny[128:131, 128:132] = 255
    shiny[200:240, 200:240] = 255
    shiny[138:141, 128:132] = (205, 160, 140)  # skin within the lesion: brighter than it, and no reflection
    found = find_reflections(shiny)
    assert found.sum() == 4 * 5 + 3 * 4
    cleaned = clean_frame(shiny).astype(int)
    assert np.abs(cleaned - skin)[found].max() <= 12
    assert (cleaned[205:235, 205:235] == 255).all()


def test_most_hairs_on_a_real_photograph_are_removed_and_one_without_hairs_hardly_changes():
    with Image.open(SAMPLES / "ISIC_0000017.jpg") as photograph:
        bare = photograph.convert("RGB").resize((256, 256))
    hairs = next(change for name, change in DISTURBANCES.items() if "hairs" in name)
    hairy = hairs(bare, np.random.default_rng(1))
    skin, hairy = np.asarray(bare).astype(int), np.asarray(hairy)
    still, cleaned = clean_frame(np.asarray(bare)), clean_frame(hairy)
    drawn = (skin != hairy).any(axis=2)
    before, after = (np.abs(image - skin)[drawn].mean() for image in (hairy, cleaned))
    assert after < before / 3
    assert (still != skin).any(axis=2).mean() < 0.05
