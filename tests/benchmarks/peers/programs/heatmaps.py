"""Heatmaps by the libraries that only the peers' environment has, batch after batch.

Called as: heatmaps.py BUNDLE. Each line of its input is a JSON object: `library`, a name of `explainers`; `inputs`, a
.npy file of normalised pixels, float32 (N, 3, side, side); `maps`, a .npy file for what the library returns, or null.
Each is answered by an empty line.
"""

import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from model import load_network
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor
from torchcam import methods as torchcam

MELANOMA, CLASSES = 0, 3


def explainers(bundle: Path) -> dict[str, Callable[[Tensor], np.ndarray]]:
    """Return by name what makes the maps of N inputs for melanoma, in the pass that also gives their logits."""
    networks = [load_network(bundle / "weights.safetensors", CLASSES) for _ in range(3)]
    whole, frozen, other = networks
    frozen.requires_grad_(False).layer4[-1].requires_grad_(True)
    by_gradient = {
        "pytorch-grad-cam": GradCAM(whole, [whole.layer4[-1]]),
        "pytorch-grad-cam, frozen below the last block": GradCAM(frozen, [frozen.layer4[-1]]),
    }
    hooked = torchcam.GradCAM(other, "layer4")
    return {name: lambda inputs, cam=cam: cam(inputs, _targets(inputs)) for name, cam in by_gradient.items()} | {
        "torchcam": lambda inputs: hooked(MELANOMA, other(inputs))[0].numpy()
    }


def _targets(inputs: Tensor) -> list[ClassifierOutputTarget]:
    return [ClassifierOutputTarget(MELANOMA)] * len(inputs)


@cache
def _read(inputs: str) -> Tensor:
    return torch.from_numpy(np.load(inputs)).contiguous(memory_format=torch.channels_last)


def main(bundle: Path) -> None:
    explain = explainers(bundle)
    for line in sys.stdin:
        asked = json.loads(line)
        maps = explain[asked["library"]](_read(asked["inputs"]))
        if asked["maps"]:
            np.save(asked["maps"], maps)
        print(flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
