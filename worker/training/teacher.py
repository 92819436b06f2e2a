"""Networks that teach: they predict every image as a student is trained on it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from shared.bundle import WEIGHTS_NAME
from shared.domain import CLASSES
from worker.model import Model, choose_commands_device, load_model
from worker.network import LesionNetwork, load_starting_weights, predict
from worker.training.precision import bfloat16_pays, mixed_precision
from worker.training.recipe import Recipe
from worker.training.record import describe_weights, read_learnt, read_record


@dataclass(frozen=True)
class Teacher:
    """A trained network, for distillation on the augmented images themselves (Beyer et al. 2022, arXiv 2106.05237).

    `predict` returns probabilities (N, classes) for uint8 pixels (N, side, side, 3); `identity` tells teachers apart;
    `learnt` are the ids of the images that it is known to have learnt from.
    """

    name: str
    identity: str
    side: int
    predict: Callable[[np.ndarray], np.ndarray]
    learnt: frozenset[str] = frozenset()

    def ask(self, images: Tensor) -> Tensor:
        """Return probabilities, float32 (N, classes), for images (N, 3, side, side) in [0, 1] of any side.

        They are read as they are: augmented images are not retouched again.
        """
        seen = functional.interpolate(images, (self.side, self.side), mode="bilinear")
        pixels = seen.mul(255).round().byte().permute(0, 2, 3, 1).contiguous()
        with mixed_precision(images.device):
            probabilities = self.predict(pixels.cpu().numpy())
        return torch.from_numpy(probabilities).float().to(images.device)


def load_bundle_teacher(folder: Path) -> Teacher:
    """Load a bundle that teaches."""
    device = choose_commands_device()
    runtime = "torch" if bfloat16_pays(device.type) else "auto"  # where that makes torch the faster one
    return teach_with(load_model(folder, device, runtime), _read_learnt(folder))


def teach_with(model: Model, learnt: frozenset[str] = frozenset()) -> Teacher:
    """Return a loaded bundle as a teacher, without its temperature: a cross-validation's teachers have none either."""
    manifest = model.manifest

    def predict(pixels: np.ndarray) -> np.ndarray:
        uncalibrated = model.read(pixels).probabilities ** manifest.temperature
        return uncalibrated / uncalibrated.sum(axis=1, keepdims=True)

    name, side = f"the bundle {manifest.name} {manifest.version}", manifest.preprocessing.input_side
    return Teacher(name, model.digest, side, predict, learnt)


def load_run_teacher(folder: Path) -> Teacher:
    """Load a finished run's network as a teacher."""
    record, device = read_record(folder), choose_commands_device()
    recipe = Recipe.model_validate(record["recipe"])
    network = LesionNetwork(len(CLASSES), recipe.network)
    load_starting_weights(network, folder / WEIGHTS_NAME, CLASSES)
    network.to(device, memory_format=torch.channels_last)

    def read(pixels: np.ndarray) -> np.ndarray:
        return predict(network, torch.from_numpy(pixels), recipe.preprocessing).softmax(dim=1).numpy()

    name = describe_weights(folder / WEIGHTS_NAME)
    return Teacher(name, record["identity"], recipe.input_side, read, _read_learnt(folder))


def _read_learnt(folder: Path) -> frozenset[str]:
    return frozenset(read_learnt(folder / WEIGHTS_NAME))
