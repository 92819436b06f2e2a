"""The closed form against values worked out by hand, autograd, and captum on whole networks."""

import pytest
import torch
from captum.attr import LayerGradCam

from shared.domain import CLASSES
from tests.worker.networks import LogitsAlone
from worker.gradcam import class_activation_maps
from worker.network import BACKBONES, LesionNetwork


def test_a_map_is_the_weighted_sum_of_the_feature_maps_over_the_number_of_cells():
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]], [[0.0, 8.0], [0.0, 0.0]]]])
    weights = torch.tensor([[2.0, -1.0], [-1.0, 0.0]])
    maps = class_activation_maps(features, weights)
    assert maps[0, 0].tolist() == [[0.5, 0.0], [1.5, 2.0]]  # (2·4 - 1·8) / 4 would be -1: cut off at 0
    assert maps[0, 1].tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_the_feature_maps_are_left_as_they_were():
    features = torch.rand(2, 3, 4, 4)
    before = features.clone()
    class_activation_maps(features, torch.randn(3, 3))
    assert torch.equal(features, before)


@pytest.fixture(scope="module", params=BACKBONES)
def network(request) -> LesionNetwork:
    torch.manual_seed(7)
    return LesionNetwork(architecture=request.param).eval()


@pytest.mark.parametrize("class_index", range(len(CLASSES)))
def test_a_networks_map_equals_the_gradients_of_that_class_logit(network, class_index):
    pixels = torch.randn(1, 3, 64, 64)
    features = network.features(pixels).detach().requires_grad_()
    network.classifier(features.mean(dim=(2, 3)))[0, class_index].backward()
    by_gradient = (features.grad.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()[0]
    with torch.inference_mode():
        ours = class_activation_maps(network(pixels)[1], network.classifier.weight)[0, class_index]
    assert torch.linalg.norm(ours - by_gradient) <= 1e-5 * torch.linalg.norm(by_gradient)


@pytest.mark.parametrize("class_index", range(len(CLASSES)))
def test_a_networks_map_equals_captums_grad_cam_at_the_last_block(network, class_index):
    pixels = torch.randn(2, 3, 96, 96)
    captum = LayerGradCam(LogitsAlone(network), network.features)
    theirs = captum.attribute(pixels, target=class_index, relu_attributions=True)[:, 0].detach()
    with torch.inference_mode():
        ours = class_activation_maps(network(pixels)[1], network.classifier.weight)[:, class_index]
    assert theirs.amax() > 0
    assert torch.linalg.norm(ours - theirs) <= 1e-5 * torch.linalg.norm(theirs)


def test_one_pass_explains_every_class_without_gradients(network):
    with torch.inference_mode():
        logits, features = network(torch.randn(3, 3, 64, 64))
        maps = class_activation_maps(features, network.classifier.weight)
    assert logits.shape == (3, len(CLASSES))
    assert maps.shape == (3, len(CLASSES), 2, 2)
    assert not maps.requires_grad
