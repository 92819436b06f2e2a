"""The network: a ResNet-50 whose one forward pass gives logits and the last feature maps."""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import resnet50

from shared.bundle import Preprocessing
from shared.domain import CLASSES


class LesionNetwork(nn.Module):
    """ResNet-50 v1 (He et al. 2016, arXiv 1512.03385) with one linear layer for the lesion classes.

    v1 has its stride 2 in the first 1×1 convolution of a stage, where torchvision has it in the 3×3 one; the
    ImageNet weights that training starts from are v1's, and 6 points of top-1 accuracy are lost with the wrong one.
    """

    def __init__(self, n_classes: int = len(CLASSES)):
        super().__init__()
        resnet = resnet50()
        for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
        self.features = nn.Sequential(
            *(getattr(resnet, name) for name in _STAGES),
        )
        self.classifier = nn.Linear(resnet.fc.in_features, n_classes)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, classes) and the last block's feature maps (N, 2048, side/32, side/32).

        Args:
            pixels: (N, 3, side, side), normalised with the bundle's mean and std.
        """
        features = self.features(pixels)
        return self.classifier(features.mean(dim=(2, 3))), features


_STAGES = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")


def load_imagenet_weights(network: LesionNetwork, path: Path) -> None:
    """Fill the feature layers from a ResNet-50 v1 file with torchvision's key names; the classifier stays random.

    Raises:
        RuntimeError: a weight is missing or has another shape.
    """
    by_stage = {name: str(position) for position, name in enumerate(_STAGES)}
    weights = {}
    for key, value in in_float32(load_file(path)).items():
        stage, _, rest = key.partition(".")
        if stage in by_stage:
            weights[f"{by_stage[stage]}.{rest}"] = value
    network.features.load_state_dict(weights)


def in_float32(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return stored half-precision weights as the network computes with them; counters stay integers."""
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
