"""The network: a ResNet-50 whose one forward pass gives logits and the last feature maps."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet50

from shared.bundle import Preprocessing
from shared.domain import CLASSES
from shared.errors import ConfigurationInvalid


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


def load_starting_weights(network: LesionNetwork, path: Path, classes: tuple[str, ...]) -> None:
    """Fill the network from a safetensors file: ResNet-50 v1 in torchvision's key names, or one that we wrote.

    The classifier is taken over where the file says that it was made for the same classes, and stays random otherwise.

    Raises:
        ConfigurationInvalid: the file is no safetensors, or a weight is missing or has another shape.
    """
    try:
        with safe_open(path, "pt") as file:
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - no dictionary
            same_classes = (file.metadata() or {}).get("classes") == ",".join(classes)
        weights = in_float32(stored)
        if same_classes:
            network.classifier.load_state_dict(_below("classifier.", weights))
        network.features.load_state_dict(_below("features.", weights) or _from_torchvision(weights))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise ConfigurationInvalid("weights_unusable", f"{path} does not hold a ResNet-50: {error}") from error


def save_weights(network: LesionNetwork, path: Path, classes: tuple[str, ...]) -> None:
    """Write float32 weights as safetensors that `load_starting_weights` reads, the classes beside them."""
    state = {key: value.cpu().contiguous() for key, value in network.state_dict().items()}
    save_file(state, path, metadata={"classes": ",".join(classes)})


def _below(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}


def _from_torchvision(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    by_stage = {name: str(position) for position, name in enumerate(_STAGES)}
    parts = ((key.partition("."), value) for key, value in weights.items())
    return {f"{by_stage[stage]}.{rest}": value for (stage, _, rest), value in parts if stage in by_stage}


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
