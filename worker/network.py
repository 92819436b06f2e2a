"""The network: one forward pass gives logits and feature maps."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.bundle import Architecture, Preprocessing
from shared.domain import CLASSES
from shared.errors import InputUnusable
from worker.efficientnet_lite import EfficientNetLite0
from worker.resnet import ResNet50V1

BACKBONES = {"resnet50-v1": ResNet50V1, "efficientnet-lite0": EfficientNetLite0}
"""The feature extractors, by their names in bundles and recipes."""

_PREDICTED_AT_ONCE = 64


class LesionNetwork(nn.Module):
    """A backbone, global average pooling, and one linear layer for the lesion classes."""

    def __init__(self, n_classes: int = len(CLASSES), architecture: Architecture = "resnet50-v1"):
        super().__init__()
        self.architecture = architecture
        self.features = BACKBONES[architecture]()
        self.classifier = nn.Linear(self.features.n_maps, n_classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, classes) and the last feature maps (N, K, side/32, side/32).

        Args:
            pixels: (N, 3, side, side), normalised with the bundle's mean and std.
        """
        features = self.features(pixels)
        return self._classify(features), features

    def look(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return logits and the feature maps of one or more stages, of which the last are those of `forward`.

        `worker.familiarity` compares them with those of training images.
        """
        stages = self.features.stages(pixels)
        return self._classify(stages[-1]), stages

    def _classify(self, features: Tensor) -> Tensor:
        return self.classifier(features.mean(dim=(2, 3)))


@torch.inference_mode()
def predict(network: LesionNetwork, pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return float32 logits (n, classes); `pixels` is uint8 (n, side, side, 3) of the preprocessing's input side."""
    network.eval()
    device = network.classifier.weight.device
    chunks = (normalise(chunk.to(device), preprocessing) for chunk in pixels.split(_PREDICTED_AT_ONCE))
    return torch.cat([network(chunk)[0].float().cpu() for chunk in chunks])


def load_starting_weights(network: LesionNetwork, path: Path, classes: tuple[str, ...]) -> None:
    """Load weights from a safetensors file: ImageNet weights of the network's architecture, or a file that we wrote.

    The classifier is loaded only if the file says that it is for the same classes; otherwise it stays random.

    Raises:
        InputUnusable: the file is not safetensors, or a weight is missing or has another shape.
    """
    try:
        with safe_open(path, "pt") as file:
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dictionary
            same_classes = (file.metadata() or {}).items() >= name_classes(classes).items()
        weights = in_float32(stored)
        if same_classes:
            network.classifier.load_state_dict(_below("classifier.", weights))
        network.features.load_state_dict(_below("features.", weights) or network.features.rename(weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputUnusable("weights_unusable", f"{path} does not hold a {network.architecture}: {error}") from error


def save_weights(network: LesionNetwork, path: Path, classes: tuple[str, ...]) -> None:
    """Write float32 weights, with their classes, as safetensors that `load_starting_weights` reads."""
    state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(state, path, metadata=name_classes(classes))


def name_classes(classes: tuple[str, ...]) -> dict[str, str]:
    """Return the metadata of a weights file: the classes of its classifier."""
    return {"classes": ",".join(classes)}


def leave_out_shared(parameter: Tensor) -> Tensor:
    """Return a classifier's weights or biases, (classes, ...), minus their mean over the classes.

    Softmax ignores what all logits share, but heatmaps would show it, and it alone can satisfy a loss on heatmaps: one
    network lowered all its logits until no map was left, which its AUC did not reveal.
    """
    return parameter - parameter.mean(dim=0)


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def in_float32(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return stored half-precision weights as float32; counters stay integers."""
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Turn uint8 pixels (N, side, side, 3) into the network's float32 input (N, 3, side, side)."""
    return standardise(pixels.permute(0, 3, 1, 2).float().div_(255), preprocessing)


def standardise(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Shift and scale each channel of images (N, 3, side, side) in [0, 1] as a bundle of this preprocessing does."""
    if preprocessing.normalisation == "image-mean":
        mean = images.mean(dim=(2, 3), keepdim=True)
    else:
        mean = images.new_tensor(preprocessing.mean).view(3, 1, 1)
    return (images - mean) / images.new_tensor(preprocessing.std).view(3, 1, 1)
