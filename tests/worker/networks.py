"""Tiny seeded networks with the same contract as the shipped one, whose answers a test can work out."""

import numpy as np
import torch
from torch import Tensor, nn

from shared.bundle import FamiliarityCheck, Manifest, Preprocessing
from shared.domain import CLASSES, OperatingPoint
from worker.familiarity import Distribution, Familiarity
from worker.model import Model
from worker.runtime import Reader, TorchRuntime

SIDE = 32


class TinyNetwork(nn.Module):
    """One 8×8 convolution of stride 8 in place of the ResNet, then the same pooling and linear layer."""

    def __init__(self, seed: int = 0):
        super().__init__()
        torch.manual_seed(seed)
        self.features = nn.Sequential(nn.Conv2d(3, 5, 8, stride=8), nn.ReLU())
        self.classifier = nn.Linear(5, len(CLASSES))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits, (maps,) = self.look(pixels)
        return logits, maps

    def look(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        maps = self.features(pixels)
        return self.classifier(maps.mean(dim=(2, 3))), (maps,)


class BrokenNetwork(TinyNetwork):
    """Gives NaN for a photograph that is dark but not black, and so spoils the whole batch."""

    def look(self, pixels: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        logits, stages = super().look(pixels)
        brightness = pixels.mean(dim=(1, 2, 3))
        if ((brightness > -2) & (brightness < -1)).any():
            logits = logits * float("nan")
        return logits, stages


class LogitsAlone(nn.Module):
    """The network as other libraries expect one: pixels in, logits out."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, pixels: Tensor) -> Tensor:
        return self.network(pixels)[0]


def preprocess_to(side: int, *, cleaned: bool = False) -> Preprocessing:
    """Return a preprocessing that gives squares of this side, in px."""
    return Preprocessing(input_side=side, cleaned=cleaned, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))


def tiny_manifest(**changes) -> Manifest:
    values = {
        "name": "tiny",
        "version": "1",
        "architecture": "resnet50-v1",
        "labels": CLASSES,
        "preprocessing": preprocess_to(SIDE),
        "temperature": 2.0,
        "operating_points": (OperatingPoint(name="screening", threshold=0.2, sensitivity=0.95, specificity=0.5),),
        "default_operating_point": "screening",
        "heatmap_scales": (0.1, 0.1, 0.1),
        "weights_sha256": "0" * 64,
        "data_sha256": "0" * 64,
        "trained_on": "nothing",
        "licence": "MIT",
        "figures": {},
        "limits": ("a test's network",),
    }
    return Manifest(**values | changes)


def tiny_model(network: nn.Module | None = None, digest: str = "d" * 64, **changes) -> Model:
    manifest = tiny_manifest(**changes)
    reader = Reader(network or TinyNetwork(), manifest.preprocessing)
    return Model(manifest, digest, "# tiny", TorchRuntime(reader, torch.device("cpu")))


def tiny_model_that_knows(pixels: np.ndarray) -> Model:
    """Return a model to which only these pixels, and others like them, are familiar."""
    check = FamiliarityCheck(sha256="0" * 64, threshold=1.0, learnt_on="one photograph")
    manifest = tiny_manifest(familiarity=check)
    runtime = TorchRuntime(Reader(TinyNetwork(), manifest.preprocessing), torch.device("cpu"))
    mean = runtime(pixels)[2][0]
    known = Distribution(mean, np.eye(len(mean), 1, dtype=np.float32), np.full(1, 1e-6), np.full(1, 1e-6))
    return Model(manifest, "d" * 64, "# tiny", runtime, Familiarity((known,)))
