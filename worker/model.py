"""A bundle loaded onto a device: pixels in, probabilities and class activation maps out."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from shared.bundle import MANIFEST_NAME, WEIGHTS_NAME, Manifest, read_card, read_manifest, verify_weights
from shared.errors import ModelUnusable
from worker.gradcam import class_activation_maps
from worker.network import LesionNetwork, in_float32, normalise

_UNMEASURED = nullcontext()


@dataclass(frozen=True)
class Reading:
    """What one forward pass says of N photographs.

    `probabilities` float64 (N, classes), rows sum to one; `maps` float32 (N, classes, h, w), raw Grad-CAM, ≥ 0.
    """

    probabilities: np.ndarray
    maps: np.ndarray


class Model:
    """A verified bundle, ready to run. Thread-safe: one batch is on the device at a time."""

    def __init__(self, manifest: Manifest, digest: str, card: str, network: LesionNetwork, device: torch.device):
        self.manifest, self.digest, self.card = manifest, digest, card
        self._network, self._device = network, device
        self._on_device = Lock()

    @torch.inference_mode()
    def read(self, pixels: np.ndarray, measured: AbstractContextManager = _UNMEASURED) -> Reading:
        """Run the network once over uint8 pixels (N, side, side, 3); `measured` is open while they have the device.

        Raises:
            ModelUnusable: `model_output_invalid`: the network gave something that is not a finite number.
        """
        with self._on_device, measured:
            inputs = normalise(torch.from_numpy(pixels).to(self._device), self.manifest.preprocessing)
            logits, features = self._network(inputs)
            maps = class_activation_maps(features, self._network.classifier.weight).cpu()
            logits = logits.double().cpu()
        if not (torch.isfinite(logits).all() and torch.isfinite(maps).all()):
            raise ModelUnusable("model_output_invalid", "The network gave something that is not a finite number.")
        return Reading((logits / self.manifest.temperature).softmax(dim=1).numpy(), maps.numpy())


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Return a device's name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def load_model(folder: Path, device: torch.device) -> Model:
    """Verify a bundle and put its network onto the device, warmed up.

    Raises:
        ModelUnusable: the bundle is missing, damaged, or not one that this code can run.
    """
    manifest = read_manifest(folder)
    verify_weights(folder, manifest)
    card = read_card(folder)
    network = LesionNetwork(len(manifest.labels))
    try:
        network.load_state_dict(in_float32(load_file(folder / WEIGHTS_NAME)))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ModelUnusable(
            "bundle_damaged", f"The bundle in {folder} does not hold a {manifest.architecture}."
        ) from error
    network.eval().to(device, memory_format=torch.channels_last)
    digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    model = Model(manifest, digest, card, network, device)
    side = manifest.preprocessing.input_side
    model.read(np.zeros((1, side, side, 3), np.uint8))
    return model
