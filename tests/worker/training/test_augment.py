"""Each random change does what its name says, on each image separately, and the same for the same seed."""

import colorsys

import pytest
import torch

from worker.training.augment import augment, blur
from worker.training.recipe import Augmentation, read_recipe

SKIN = torch.tensor([200, 140, 120], dtype=torch.uint8)


def changed(pixels: torch.Tensor, seed: int = 1, side: int = 32, **ranges) -> torch.Tensor:
    return augment(pixels, side, Augmentation(**ranges), torch.Generator().manual_seed(seed))


def plain(n: int) -> torch.Tensor:
    return SKIN.expand(n, 48, 48, 3).contiguous()


def noisy(n: int) -> torch.Tensor:
    return torch.randint(0, 256, (n, 48, 48, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))


def test_the_default_recipes_changes_are_the_same_for_the_same_seed_and_stay_in_range():
    ranges = read_recipe("default").augmentation.model_dump()
    one, same, other = (changed(noisy(3), seed, **ranges) for seed in (1, 1, 2))
    assert one.shape == (3, 3, 32, 32)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert one.min() >= 0
    assert one.max() <= 1


def test_without_ranges_images_are_only_flipped_both_ways():
    corner = torch.zeros(40, 32, 32, 3, dtype=torch.uint8)
    corner[:, :8, :8] = 255
    images = changed(corner, side=32)[:, 0]
    lit = {(float(image[2, 2]), float(image[2, -3]), float(image[-3, 2]), float(image[-3, -3])) for image in images}
    assert lit == {tuple(float(at == place) for at in range(4)) for place in range(4)}


@pytest.mark.parametrize("kind", ["brightness", "contrast", "saturation", "warmth", "hue_deg", "scale", "rotation_deg"])
def test_each_image_is_changed_on_its_own(kind):
    images = changed(noisy(1).expand(6, -1, -1, -1), **{kind: 0.3 if kind[-3:] != "deg" else 40})
    assert len({float(image.std()) for image in images}) > 3


def test_hue_rotates_the_colour_and_saturation_scales_it_while_brightness_stays():
    hues, strengths = [], []
    for image in changed(plain(30), hue_deg=20, saturation=0.3):
        red, green, blue = image.mean(dim=(1, 2)).tolist()
        assert 0.299 * red + 0.587 * green + 0.114 * blue == pytest.approx(
            (0.299 * 200 + 0.587 * 140 + 0.114 * 120) / 255
        )
        hue, _, _ = colorsys.rgb_to_hsv(red, green, blue)
        hues.append((hue * 360 + 180) % 360 - 180)
        strengths.append(max(red, green, blue) - min(red, green, blue))
    assert -25 < min(hues) < 5  # of 15° before the change
    assert 25 < max(hues) < 45
    assert max(strengths) / min(strengths) > 1.5


def test_warmth_raises_red_by_as_much_as_it_lowers_blue():
    for red, green, blue in changed(plain(10), warmth=0.2).mean(dim=(2, 3)).tolist():
        assert green == pytest.approx(140 / 255)
        assert red / (200 / 255) - 1 == pytest.approx(1 - blue / (120 / 255), abs=1e-4)
        assert abs(red / (200 / 255) - 1) <= 0.2


def test_hairs_are_thin_dark_lines_over_half_of_the_images():
    skin = SKIN.view(3, 1, 1) / 255
    images = changed(plain(40), side=48, hairs=10)
    darker = (skin - images).amax(dim=1)
    assert darker.min() >= -1e-6
    bare = darker.amax(dim=(1, 2)) < 1e-6
    assert 10 <= int(bare.sum()) <= 30
    covered = (darker[~bare] > 0.1).float().mean(dim=(1, 2))
    assert covered.max() < 0.7
    assert len({round(float(share), 4) for share in covered}) > 8


def test_a_blurred_point_is_a_gaussian_of_the_images_own_width():
    point = torch.zeros(2, 1, 21, 21)
    point[:, :, 10, 10] = 1
    narrow, wide = blur(point, torch.tensor([1.0, 2.5]))[:, 0]
    assert narrow.sum() == pytest.approx(1)
    assert float(narrow[10, 11] / narrow[10, 10]) == pytest.approx(torch.exp(torch.tensor(-0.5)).item())
    assert float(wide[13, 10] / wide[10, 10]) == pytest.approx(torch.exp(torch.tensor(-0.5 * (3 / 2.5) ** 2)).item())


def test_focus_blurs_some_images_sharpens_some_and_leaves_the_rest():
    before = changed(noisy(1).expand(60, -1, -1, -1))
    after = changed(noisy(1).expand(60, -1, -1, -1), degraded_share=0.6, blur_px=2, sharpen=1)
    change = (after.std(dim=(1, 2, 3)) - before.std(dim=(1, 2, 3))).sign()
    assert 12 < int((change == 0).sum()) < 36
    assert min(int((change < 0).sum()), int((change > 0).sum())) > 5


def test_noise_is_added_to_a_share_of_the_images():
    grain = changed(plain(60), degraded_share=0.5, noise=0.1).std(dim=(2, 3)).mean(dim=1)
    assert 15 < int((grain > 1e-3).sum()) < 45
    assert grain.max() < 0.11


def test_cutout_paints_one_square_of_at_most_its_area_with_the_mean_colour():
    images = changed(noisy(20), cutout=0.25)
    for image in images:
        covered = (image == image.flatten(1).mode(dim=1).values.view(3, 1, 1)).all(dim=0)
        rows, columns = covered.any(dim=1), covered.any(dim=0)
        assert covered.sum() == rows.sum() * columns.sum()
        assert covered.float().mean() < 0.3
    assert (images.flatten(2).mode(dim=2).values > 0.3).all()
