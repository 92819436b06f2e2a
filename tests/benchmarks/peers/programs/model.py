"""Photographs in, classes and overlays out: the shipped network under pytorch-grad-cam, as its guide shows it."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.image import show_cam_on_image
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import resnet50

_STAGES = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""What the positions of `features` in the weights file are called by torchvision."""


class Explainer:
    """A bundle's network with Grad-CAM at its last block, on this many threads. Not thread-safe, as GradCAM is not."""

    def __init__(self, bundle: Path, threads: int):
        torch.set_num_threads(threads)
        manifest = json.loads((bundle / "bundle.json").read_text())
        preprocessing = manifest["preprocessing"]
        self._labels, self._side = manifest["labels"], preprocessing["input_side"]
        self._mean, self._std = (np.float32(preprocessing[name]) for name in ("mean", "std"))
        network = load_network(bundle / "weights.safetensors", len(self._labels))
        self._cam = GradCAM(network, [network.layer4[-1]])

    def __call__(self, photographs: Sequence[bytes]) -> list[dict[str, str]]:
        """Return for each photograph its `class`, and its `overlay` as PNG in base64."""
        pictures = [self._decode(photograph) for photograph in photographs]
        maps = self._cam(self._normalise(pictures), targets=None)
        classes = self._cam.outputs.argmax(dim=1).tolist()
        return [
            {"class": self._labels[number], "overlay": _encode(show_cam_on_image(picture, shown, use_rgb=True))}
            for number, picture, shown in zip(classes, pictures, maps, strict=True)
        ]

    def _decode(self, photograph: bytes) -> np.ndarray:
        """Return RGB as float32 (side, side, 3) in [0, 1]; a JPEG is decoded at a smaller scale."""
        with Image.open(io.BytesIO(photograph)) as image:
            image.draft("RGB", (2 * self._side, 2 * self._side))
            small = image.convert("RGB").resize((self._side, self._side))
        return np.asarray(small, np.float32) / 255

    def _normalise(self, pictures: Sequence[np.ndarray]) -> Tensor:
        batch = torch.from_numpy((np.stack(pictures) - self._mean) / self._std)
        return batch.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def load_network(weights: Path, classes: int) -> nn.Module:
    """Return torchvision's ResNet-50 with the strides of v1, in the first convolution of a stage, and these weights."""
    network = resnet50(num_classes=classes)
    for stage in (network.layer2, network.layer3, network.layer4):
        stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    network.load_state_dict({_key_in_torchvision(key): value.float() for key, value in load_file(weights).items()})
    return network.eval().to(memory_format=torch.channels_last)


def _key_in_torchvision(key: str) -> str:
    part, _, rest = key.partition(".")
    if part == "classifier":
        return f"fc.{rest}"
    position, _, rest = rest.partition(".")
    return f"{_STAGES[int(position)]}.{rest}"


def _encode(picture: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
