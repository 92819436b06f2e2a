"""A bundle loaded onto a device: pixels in, probabilities and class activation maps out."""

import hashlib
import logging
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from scipy.special import softmax

from shared.bundle import MANIFEST_NAME, WEIGHTS_NAME, Manifest, read_card, read_manifest, verify_weights
from shared.errors import ModelUnusable
from worker.familiarity import Familiarity, read_familiarity
from worker.network import LesionNetwork, in_float32
from worker.runtime import Reader, Runtime, make_runtime

_UNMEASURED = nullcontext()

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What one forward pass says of N photographs.

    `probabilities` float64 (N, classes), rows sum to one; `maps` float32 (N, classes, h, w), raw Grad-CAM, ≥ 0;
    `shares` float32 (N, K), `worker.familiarity.activation_shares`; `unfamiliar` bool (N,): they lie far from those
    of the training images. Of a bundle that does not know them, none does.
    """

    probabilities: np.ndarray
    maps: np.ndarray
    shares: np.ndarray
    unfamiliar: np.ndarray


class Model:
    """A verified bundle, ready to run. Thread-safe: one batch is on the device at a time."""

    def __init__(
        self, manifest: Manifest, digest: str, card: str, runtime: Runtime, familiarity: Familiarity | None = None
    ):
        self.manifest, self.digest, self.card = manifest, digest, card
        self._runtime, self._familiarity = runtime, familiarity
        self._on_device = Lock()

    def read(self, pixels: np.ndarray, measured: AbstractContextManager = _UNMEASURED) -> Reading:
        """Run the network once over uint8 pixels (N, side, side, 3); `measured` is open while they have the device.

        Raises:
            ModelUnusable: `model_output_invalid`: the network gave something that is not a finite number.
        """
        with self._on_device, measured:
            outputs = self._runtime(pixels)
        logits, maps, shares = outputs
        with np.errstate(over="ignore", invalid="ignore"):  # what they give is looked at
            # Not by torch: its threads, for a few numbers, compete with the network's.
            probabilities = softmax(logits.astype(np.float64) / self.manifest.temperature, axis=1)
        if not all(np.isfinite(output).all() for output in (*outputs, probabilities)):
            raise ModelUnusable("model_output_invalid", "The network gave something that is not a finite number.")
        return Reading(probabilities, maps, shares, self._unfamiliar(shares))

    def warm_up(self) -> None:
        """Read a black frame: the first forward pass takes longer than every other one, and shows whether there is any.

        Raises:
            ModelUnusable: see `read`; and whatever a device raises that does not work.
        """
        side = self.manifest.preprocessing.input_side
        self.read(np.zeros((1, side, side, 3), np.uint8))

    def is_working(self) -> bool:
        """Tell whether a black frame can be read. If not, no photograph is to blame for an error or for its NaN."""
        try:
            self.warm_up()
        except Exception:  # torch's and ONNX Runtime's share no root
            log.exception("device_lost")
            return False
        return True

    def _unfamiliar(self, shares: np.ndarray) -> np.ndarray:
        if self._familiarity is None:
            return np.zeros(len(shares), bool)
        if self._familiarity.mean.shape != shares.shape[1:]:
            raise ModelUnusable(
                "familiarity_outdated",
                "What the bundle knows of its training images comes from another version of DermQueue."
                " `dermqueue gate learn` brings it up to date.",
            )
        return self._familiarity.distances(shares) > self.manifest.familiarity.threshold


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is CUDA where there is one."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Return a device's name for people."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def load_model(folder: Path, device: torch.device, runtime: str = "auto", *, with_familiarity: bool = True) -> Model:
    """Verify a bundle and make its network ready to run, warmed up; without its familiarity it finds none unfamiliar.

    Raises:
        ModelUnusable: the bundle is missing, damaged, or not one that this code can run.
    """
    manifest = read_manifest(folder)
    verify_weights(folder, manifest)
    card, familiarity = read_card(folder), read_familiarity(folder, manifest) if with_familiarity else None
    network = load_network(folder, manifest)
    digest = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
    side = manifest.preprocessing.input_side
    made = make_runtime(runtime, Reader(network, manifest.preprocessing), side, device)
    model = Model(manifest, digest, card, made, familiarity)
    model.warm_up()
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
