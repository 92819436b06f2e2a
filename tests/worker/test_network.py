"""How pixels become the network's input, against values worked out by hand, and what one pass gives."""

import pytest
import torch

from shared.bundle import Preprocessing
from worker.network import BACKBONES, LesionNetwork, normalise

PIXELS = torch.tensor([[[[0, 51, 255], [102, 51, 255]], [[102, 51, 255], [204, 51, 0]]]], dtype=torch.uint8)


@pytest.mark.parametrize(
    ("normalisation", "red", "blue"),
    [
        ("imagenet", [[-1.0, -0.2], [-0.2, 0.6]], [[2.0, 2.0], [2.0, -2.0]]),  # minus 0.5, divided by 0.5 and 0.25
        ("image-mean", [[-0.8, 0.0], [0.0, 0.8]], [[1.0, 1.0], [1.0, -3.0]]),  # minus 0.4 and 0.75
    ],
)
def test_each_channel_is_shifted_by_the_bundles_mean_or_by_the_images_own(normalisation, red, blue):
    preprocessing = Preprocessing(input_side=2, normalisation=normalisation, mean=(0.5, 0.5, 0.5), std=(0.5, 1.0, 0.25))
    inputs = normalise(PIXELS, preprocessing)
    assert inputs.shape == (1, 3, 2, 2)
    torch.testing.assert_close(inputs[0, 0], torch.tensor(red))
    torch.testing.assert_close(inputs[0, 2], torch.tensor(blue))


def test_another_image_in_the_batch_changes_nothing():
    preprocessing = Preprocessing(input_side=2, normalisation="image-mean", mean=(0.0,) * 3, std=(1.0,) * 3)
    together = normalise(torch.cat([PIXELS, 255 - PIXELS]), preprocessing)
    torch.testing.assert_close(together[:1], normalise(PIXELS, preprocessing))


@pytest.mark.parametrize("architecture", BACKBONES)
@torch.inference_mode()
def test_look_gives_the_logits_and_the_last_maps_of_forward(architecture):
    torch.manual_seed(7)
    network, pixels = LesionNetwork(architecture=architecture).eval(), torch.randn(2, 3, 64, 64)
    logits, features = network(pixels)
    seen, stages = network.look(pixels)
    assert torch.equal(seen, logits)
    assert torch.equal(stages[-1], features)


@torch.inference_mode()
def test_look_gives_the_maps_of_a_resnets_third_stage_before_its_last_ones():
    network, given = LesionNetwork().eval(), []
    network.features[6].register_forward_hook(lambda stage, _, maps: given.append(maps))
    _, (third, last) = network.look(torch.randn(2, 3, 64, 64))
    assert (third.shape, last.shape) == ((2, 1024, 4, 4), (2, 2048, 2, 2))
    assert torch.equal(third, *given)


@torch.inference_mode()
def test_look_gives_a_light_networks_widened_maps_before_its_last_stride():
    network, given = LesionNetwork(architecture="efficientnet-lite0").eval(), []
    network.features.blocks[11].bn0.register_forward_hook(lambda stage, _, maps: given.append(maps.clamp(0, 6)))
    _, (wide, last) = network.look(torch.randn(2, 3, 64, 64))
    assert (wide.shape, last.shape) == ((2, 672, 4, 4), (2, 1280, 2, 2))
    assert torch.equal(wide, *given)
