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
from worker.network import LesionNetwork, in_float32
from worker.runtime import Reader, Runtime, make_runtime

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

    def __init__(self, manifest: Manifest, digest: str, card: str, runtime: Runtime):
        self.manifest, self.digest, self.card = manifest, digest, card
        self._runtime = runtime
        self._on_device = Lock()

    def read(self, pixels: np.ndarray, measured: AbstractContextManager = _UNMEASURED) -> Reading:
        """Run the network once over uint8 pixels (N, side, side, 3); `measured` is open while they have the device.

        Raises:
            ModelUnusable: `model_output_invalid`: the network gave something that is not a finite number.
        """
        with self._on_device, measured:
            logits, maps = self._runtime(pixels)
        if not (np.isfinite(logits).all() and np.isfinite(maps).all()):
            raise ModelUnusable("model_output_invalid", "The network gave something that is not a finite number.")
        scaled = torch.from_numpy(logits).double() / self.manifest.temperature
        return Reading(scaled.softmax(dim=1).numpy(), maps)


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Return a device's name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def load_model(folder: Path, device: torch.device, runtime: str = "auto") -> Model:
    """Verify a bundle and make its network ready to run, warmed up.

    Raises:
        ModelUnusable: the bundle is missing, damaged, or not one that this code can run.
    """
    manifest = read_manifest(folder)
    verify_weights(folder, manifest)
    card = read_card(folder)
    network = load_network(folder, manifest)
    digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    side = manifest.preprocessing.input_side
    model = Model(manifest, digest, card, make_runtime(runtime, Reader(network, manifest.preprocessing), side, device))
    model.read(np.zeros((1, side, side, 3), np.uint8))
    return model


def load_network(folder: Path, manifest: Manifest) -> LesionNetwork:
    """Return a bundle's network.

    Raises:
        ModelUnusable: the file does not hold its weights.
    """
    network = LesionNetwork(len(manifest.labels), manifest.architecture)
    try:
        network.load_state_dict(in_float32(load_file(folder / WEIGHTS_NAME)))
    except (RuntimeError, SafetensorError, OSError) as error:
        raise ModelUnusable(
            "bundle_damaged", f"The bundle in {folder} does not hold a {manifest.architecture}."
        ) from error
    return network.eval()
