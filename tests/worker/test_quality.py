"""What is said of a photograph by its pixels alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from shared.errors import ImageRejected
from shared.photograph import decode_photograph
from tests import images
from tests.deploy.pages import REPOSITORY
from worker.frame import TRAINING_SIDE, squash_frame
from worker.quality import contrast, inspect_frame, sharpness

SAMPLES = REPOSITORY / "deploy" / "samples"
HAIRY = SAMPLES / "ISIC_0000043.jpg"


def read_sample(file: Path) -> Image.Image:
    return Image.fromarray(squash_frame(decode_photograph(file.read_bytes(), 2 * TRAINING_SIDE)))


@pytest.fixture(params=sorted({*SAMPLES.glob("*.jpg")} - {HAIRY}), ids=lambda file: file.stem)
def photograph(request) -> Image.Image:
    return read_sample(request.param)


def warnings_of(picture: Image.Image) -> tuple[str, ...]:
    return inspect_frame(squash_frame(picture))


def refusal(picture: Image.Image) -> str:
    with pytest.raises(ImageRejected) as caught:
        warnings_of(picture)
    return caught.value.code


def lit(picture: Image.Image, factor: float) -> Image.Image:
    return picture.point(lambda level: min(255, round(level * factor)))


def test_a_good_photograph_gets_no_warning(photograph):
    assert warnings_of(photograph) == ()


@pytest.mark.parametrize("radius_px", [4, 16])
def test_a_blurred_photograph_is_warned_of(photograph, radius_px):
    assert warnings_of(photograph.filter(ImageFilter.GaussianBlur(radius_px))) == ("blurred",)


def test_a_dark_photograph_is_warned_of_and_a_black_one_is_rejected(photograph):
    assert "dark" in warnings_of(lit(photograph, 0.2))
    assert refusal(lit(photograph, 0.08)) == "image_dark"


def test_a_reflection_is_warned_of_and_a_photograph_that_is_mostly_white_is_rejected(photograph):
    for share, said in ((0.3, "glare"), (0.7, "image_overexposed")):
        spoilt = photograph.copy()
        spoilt.paste("white", (0, 0, TRAINING_SIDE, round(share * TRAINING_SIDE)))
        assert said in (warnings_of(spoilt) if said == "glare" else refusal(spoilt))


def test_skin_without_a_lesion_is_warned_of_however_rough_and_unevenly_coloured_it_is():
    skin = np.random.default_rng(0).normal((200, 150, 130), 12, (TRAINING_SIDE, TRAINING_SIDE, 3))
    assert "no_lesion_in_view" in warnings_of(Image.fromarray(skin.clip(0, 255).astype(np.uint8)))
    assert "no_lesion_in_view" not in warnings_of(images.lesion())


def test_a_photograph_covered_by_hairs_is_warned_of():
    assert warnings_of(read_sample(HAIRY)) == ("hairy",)


def test_sharpness_does_not_depend_on_contrast_or_brightness():
    luma = np.random.default_rng(0).uniform(0, 255, (64, 64)).astype(np.float32)
    assert sharpness(luma) == pytest.approx(sharpness(luma * 0.2 + 40), rel=1e-4)


def test_sharpness_is_a_quarter_for_a_ramp_and_one_for_a_uniform_picture():
    ramp = np.add.outer(np.arange(64.0), np.arange(64.0))
    assert sharpness(ramp) == pytest.approx(0.25)
    assert sharpness(np.full((64, 64), 90.0)) == 1.0


def test_contrast_is_of_light_and_shade_and_not_of_texture():
    checks = np.indices((256, 256)).sum(axis=0) % 2 * 200.0
    halves = np.where(np.arange(256) < 128, 100.0, 100.0 * np.e) * np.ones((256, 1))
    assert contrast(checks) == pytest.approx(0, abs=1e-6)
    assert contrast(halves) == pytest.approx(0.5, abs=0.03)
