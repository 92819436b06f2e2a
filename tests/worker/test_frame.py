"""The frame that the network reads: whole, squashed, with the traces of the training images' JPEG."""

import io

import numpy as np
import pytest
from PIL import Image

from shared.heatmap import fit_overlay
from shared.photograph import decode_photograph
from tests import images
from tests.worker.networks import preprocess_to
from worker.frame import (
    DECODED_SIDE,
    TRAINING_SIDE,
    brighten,
    light,
    prepare_frame,
    shrink_for_overlay,
    squash,
    squash_frame,
)


def test_a_reduced_photograph_looks_the_same_to_the_network():
    data = images.encode(images.lesion(1800, 1350), "JPEG", quality=90)
    fast, slow = (squash(decode_photograph(data, side), preprocess_to(224)) for side in (DECODED_SIDE, 1350))
    assert np.abs(fast.astype(int) - slow).mean() < 0.2  # with half as many pixels, 0.23


def test_squash_keeps_the_whole_frame_whatever_its_aspect():
    image = Image.new("RGB", (400, 100), "black")
    image.paste("white", (200, 0, 400, 100))
    square = squash(image, preprocess_to(50))
    assert (square.shape, square.dtype) == ((50, 50, 3), np.uint8)
    assert square[:, :23].max() <= 3
    assert square[:, 27:].min() >= 252


def test_squash_averages_what_it_drops():
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(squash(Image.fromarray(stripes), preprocess_to(32))[:, 1:-1].astype(int) - 128).max() <= 2


def kept_for_training(photograph: Image.Image) -> Image.Image:
    small = photograph.resize((256, 256), Image.Resampling.BICUBIC)
    return Image.open(io.BytesIO(images.encode(small, "JPEG", quality=75)))


def test_a_training_image_reaches_the_network_unchanged():
    kept = kept_for_training(images.lesion(1504, 1129))
    assert np.abs(squash(kept, preprocess_to(256)).astype(int) - np.asarray(kept)).mean() < 0.1


def test_a_full_photograph_looks_to_the_network_like_its_copy_among_the_training_images():
    photograph = images.lesion(1504, 1129)
    ours, trained = (
        squash(each, preprocess_to(192)).astype(int) for each in (photograph, kept_for_training(photograph))
    )
    assert np.abs(ours - trained).mean() < 0.1


@pytest.mark.parametrize("size", [(752, 565), (1504, 1129), (600, 3000), (300, 200)])
def test_the_overlays_photograph_is_within_one_level_of_pillows(size):
    photograph = images.lesion(*size)
    theirs = np.array(photograph.resize(fit_overlay(size), Image.Resampling.BILINEAR))
    ours = np.array(shrink_for_overlay(photograph))
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_hairs_are_painted_over_if_the_preprocessing_says_so():
    frame = np.full((TRAINING_SIDE, TRAINING_SIDE, 3), (205, 160, 140), np.uint8)
    frame[30:220, 60:63] = 30
    as_it_is, cleaned = (prepare_frame(frame, preprocess_to(224, cleaned=so)) for so in (False, True))
    assert as_it_is.min() < 60
    assert (cleaned == (205, 160, 140)).all()


@pytest.mark.parametrize("gain", [0.2, 0.5, 1.0])
def test_a_dim_frame_is_brightened_to_the_least_light_and_a_bright_one_stays(gain):
    bright = squash_frame(images.lesion(300, 300))
    dim = (bright * gain).round().astype(np.uint8)
    seen = brighten(dim, light(bright))
    assert light(seen) == pytest.approx(light(bright), rel=0.01)
    assert np.abs(seen.astype(int) - bright).max() <= 3
    assert brighten(dim, light(dim)) is dim


def test_a_dark_lesion_hardly_lowers_the_light_of_the_skin_around_it():
    skin = np.full((TRAINING_SIDE, TRAINING_SIDE, 3), 180, np.uint8)
    with_lesion = skin.copy()
    with_lesion[64:192, 64:192] = 40
    assert light(skin) == pytest.approx(180)
    assert light(with_lesion) > 0.95 * 180 > with_lesion.mean()


def test_the_light_that_a_recipe_asks_for_is_what_its_network_reads():
    dim = np.full((TRAINING_SIDE, TRAINING_SIDE, 3), 75, np.uint8)
    preprocessing = preprocess_to(224).model_copy(update={"least_light": 150})
    assert (prepare_frame(dim, preprocessing) == 150).all()
    assert preprocessing.describe().endswith("-imagenet-light-150")


def test_what_is_black_stays_black():
    black = np.zeros((TRAINING_SIDE, TRAINING_SIDE, 3), np.uint8)
    assert (brighten(black, 150) == 0).all()
