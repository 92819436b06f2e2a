"""EfficientNet-Lite0 against timm's `tf_efficientnet_lite0` (1.0.31) with the same weights."""

import numpy as np
import pytest
import torch

from shared.domain import CLASSES
from worker.efficientnet_lite import EfficientNetLite0, _SamePadded
from worker.network import LesionNetwork


def test_its_maps_are_those_of_timm():
    network, random = EfficientNetLite0().eval(), np.random.default_rng(0)
    for value in network.state_dict().values():
        if value.ndim == 4:
            drawn = random.uniform(-1, 1, value.shape) * (6 / value[0].numel()) ** 0.5
            value.copy_(torch.from_numpy(drawn))
    pixels = (torch.arange(3 * 64 * 64) * 0.37).cos().view(1, 3, 64, 64)
    with torch.inference_mode():
        maps = network(pixels)
    assert maps.shape == (1, 1280, 2, 2)
    assert float(maps.mean()) == pytest.approx(1.3098, abs=1e-3)
    assert float(maps.std()) == pytest.approx(1.8468, abs=1e-3)
    assert maps[0, :6, 0, 0].tolist() == pytest.approx([0, 0, 0.7257, 3.1282, 6, 0], abs=5e-3)
    assert maps[0, :6, 1, 1].tolist() == pytest.approx([0, 1.8524, 4.6500, 0.0245, 6, 0], abs=5e-3)


@pytest.mark.parametrize(
    ("side", "stride", "expected"),
    [
        (3, 1, [[10.0, 18.0, 24.0, 18.0], [27.0, 45.0, 54.0, 39.0]]),
        (3, 2, [[45.0, 39.0], [66.0, 50.0]]),  # nothing above and on the left, one below and on the right
        (5, 2, [[120.0, 96.0], [114.0, 90.0]]),  # one above and on the left, two below and on the right
    ],
)
def test_padding_is_tensorflows_same(side, stride, expected):
    convolution = _SamePadded(1, 1, side, stride=stride, bias=False)
    torch.nn.init.ones_(convolution.weight)
    summed = convolution(torch.arange(16.0).view(1, 1, 4, 4))[0, 0]
    assert summed[:2].tolist() == expected


def test_imagenet_weights_are_known_by_the_names_of_efficientnet_pytorch():
    key = "_blocks.3._depthwise_conv.weight"
    renamed = EfficientNetLite0.rename({key: torch.ones(1), "_fc.bias": torch.ones(1), "_bn1.bias": torch.ones(1)})
    assert list(renamed) == ["blocks.3.depthwise_conv.weight", "bn1.bias"]
    assert set(renamed) <= set(EfficientNetLite0().state_dict())


def test_it_is_light_and_has_the_same_kind_of_head_as_the_servers_network():
    network = LesionNetwork(architecture="efficientnet-lite0").eval()
    assert sum(weights.numel() for weights in network.parameters()) == 3_371_008 + 1280 * len(CLASSES) + len(CLASSES)
    with torch.inference_mode():
        logits, features = network(torch.randn(2, 3, 64, 64))
        by_hand = network.classifier(features.mean(dim=(2, 3)))
    torch.testing.assert_close(logits, by_hand)
