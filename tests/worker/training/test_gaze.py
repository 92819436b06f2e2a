"""A network can be made to look at the lesion, which is found by its colour and moves with its image."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from shared.domain import CLASSES
from tests.worker.training.data import TinyLesionNetwork, tiny_recipe
from worker.gradcam import class_activation_maps
from worker.network import leave_out_shared, normalise
from worker.training.augment import augment
from worker.training.dataset import LabelledImages
from worker.training.fine_tune import FineTuning
from worker.training.gaze import add_lesions, share_off_lesion
from worker.training.recipe import Augmentation, Recipe, read_recipe

SIDE = 64
SKIN, BROWN, MARKS = (224, 178, 160), (120, 70, 50), ("red", "lime", "blue")


def marked_lesion(mark: str) -> np.ndarray:
    """Return skin with a brown disc in the middle and a mark in a corner, where no lesion is looked for."""
    image = Image.new("RGB", (SIDE, SIDE), SKIN)
    draw = ImageDraw.Draw(image)
    draw.ellipse((20, 20, 44, 44), fill=BROWN)
    draw.rectangle((0, 0, 7, 7), fill=mark)
    return np.asarray(image)


def marked_images() -> LabelledImages:
    """Return images whose class is the mark's colour, and nothing in the lesion."""
    labels = torch.arange(24) % len(CLASSES)
    pixels = torch.from_numpy(np.stack([marked_lesion(MARKS[label]) for label in labels]))
    names = tuple(map(str, range(len(labels))))
    return LabelledImages(names, pixels, labels, names, CLASSES, {}, "marked")


def cells(*filled: tuple[int, int]) -> torch.Tensor:
    maps = torch.zeros(1, 1, 7, 7)
    for row, column in filled:
        maps[0, 0, row, column] = 1000.0
    return maps


def test_the_lesion_becomes_a_fourth_channel_and_the_colours_stay():
    pixels = marked_images().pixels[:2]
    with_lesions = add_lesions(pixels)
    assert with_lesions.dtype == torch.uint8
    assert torch.equal(with_lesions[..., :3], pixels)
    assert (with_lesions[:, 26:38, 26:38, 3] == 255).all()
    assert (with_lesions[:, :10, :10, 3] == 0).all()


def test_the_fourth_channel_moves_with_its_image_and_nothing_else_happens_to_it():
    ranges = read_recipe("default").augmentation
    moved_alone = Augmentation(rotation_deg=ranges.rotation_deg, scale=ranges.scale, stretch=ranges.stretch, shift=0.08)
    pixels = marked_images().pixels[:4]
    red_again = torch.cat([pixels, pixels[..., :1]], dim=3)

    def changed(how: Augmentation) -> torch.Tensor:
        return augment(red_again, SIDE, how, torch.Generator().manual_seed(3))

    moved = changed(moved_alone)
    torch.testing.assert_close(moved[:, 3], moved[:, 0])
    assert torch.equal(changed(ranges)[:, 3], moved[:, 3])


def test_what_lies_outside_the_lesion_counts_by_its_share_and_hardly_where_it_is_faint():
    lesion = torch.zeros(1, 1, 28, 28)
    lesion[..., 12:16, 12:16] = 1
    assert share_of(cells((3, 3)), lesion) == 0
    assert share_of(cells((3, 3), (0, 6)), lesion) == pytest.approx(0.5, abs=0.01)
    assert share_of(cells((0, 6)), lesion) == pytest.approx(1, abs=0.03)
    assert share_of(cells((0, 6)) / 1000, lesion) < 0.3
    assert share_of(cells(), lesion) == 0


def share_of(features: torch.Tensor, lesion: torch.Tensor) -> float:
    """Return the share for two classes: the features speak for one and against the other, which has no map."""
    return 2 * float(share_off_lesion(features, torch.tensor([[1.0], [-1.0]]), lesion))


def test_what_all_classes_share_is_left_out():
    generator = torch.Generator().manual_seed(1)
    features, weights = torch.rand(2, 5, 7, 7, generator=generator), torch.randn(3, 5, generator=generator)
    lesions = torch.rand(2, 1, 28, 28, generator=generator)
    shares = [share_off_lesion(features, weights + shift, lesions) for shift in (0, -9)]
    torch.testing.assert_close(*shares)
    assert shares[0] > 0.1


@torch.no_grad()
def look(network: TinyLesionNetwork, images: LabelledImages, recipe: Recipe) -> tuple[float, float]:
    """Return the share outside the lesions, and for what share of the images their own class has a map at all."""
    seen = add_lesions(images.pixels)
    _, features = network.eval()(normalise(seen[..., :3], recipe.preprocessing))
    weights = network.classifier.weight
    drawn = class_activation_maps(features, leave_out_shared(weights))[range(len(images)), images.labels]
    share = share_off_lesion(features, weights, seen[..., 3:].permute(0, 3, 1, 2) / 255)
    return float(share), float((drawn.amax(dim=(1, 2)) > 0).float().mean())


def test_a_network_relies_less_on_what_lies_outside_the_lesion_and_still_has_heatmaps(tmp_path):
    images, share = marked_images(), {}
    for weight in (0, 2):
        recipe = tiny_recipe(epochs=12, loss={"off_lesion": weight})
        torch.manual_seed(0)
        folder = tmp_path / str(weight)
        folder.mkdir()
        network = FineTuning(recipe, TinyLesionNetwork(), folder, images).run(lambda done, total, loss: None)
        share[weight], drawn = look(network, images, recipe)
        assert drawn == 1
    assert share[2] < 0.7 * share[0], share
