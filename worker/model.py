"""A bundle loaded onto a device: pixels in, probabilities and class activation maps out."""

import hashlib
import logging
from collections.abc import Sequence
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
from shared.errors import ConfigurationInvalid, ModelUnusable
from shared.settings import read_device
from worker.familiarity import Familiarity, read_familiarity
from worker.network import LesionNetwork, in_float32
from worker.runtime import Reader, Runtime, make_runtime

_UNMEASURED = nullcontext()

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What one forward pass says of N photographs.

    `probabilities` float64 (N, classes), rows sum to one; `maps` float32 (N, classes, h, w), raw Grad-CAM, ≥ 0;
    `shares` of each stage float32 (N, K), `worker.familiarity.activation_shares`; `unfamiliar` bool (N,): whether they
    lie far from those of the training images; always False without their statistics.
    """

    probabilities: np.ndarray
    maps: np.ndarray
    shares: tuple[np.ndarray, ...]
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
        """Run the network once over uint8 pixels (N, side, side, 3); `measured` is entered while they have the device.

        Raises:
            ModelUnusable: `model_output_invalid`: an output is not finite; `familiarity_outdated`.
        """
        with self._on_device, measured:
            outputs = self._runtime(pixels)
        logits, maps, *shares = outputs
        with np.errstate(over="ignore", invalid="ignore"):  # checked below
            # Not in torch: for so few numbers, its threads would only compete with the network's.
            probabilities = softmax(logits.astype(np.float64) / self.manifest.temperature, axis=1)
        if not all(np.isfinite(output).all() for output in (*outputs, probabilities)):
            raise ModelUnusable("model_output_invalid", "The network's output is not a finite number.")
        return Reading(probabilities, maps, tuple(shares), self._unfamiliar(shares))

    def warm_up(self) -> None:
        """Read a black frame: the first forward pass is the slowest, and shows whether the device works.

        Raises:
            ModelUnusable: see `read`. A device that does not work may raise anything.
        """
        side = self.manifest.preprocessing.input_side
        self.read(np.zeros((1, side, side, 3), np.uint8))

    def is_working(self) -> bool:
        """Tell whether a black frame can be read. If not, no photograph is to blame for an error or a NaN."""
        try:
            self.warm_up()
        except Exception:  # torch's and ONNX Runtime's errors share no base class
            log.exception("device_lost")
            return False
        return True

    def _unfamiliar(self, shares: Sequence[np.ndarray]) -> np.ndarray:
        if self._familiarity is None:
            return np.zeros(len(shares[0]), bool)
        if not self._familiarity.fits(shares):
            raise ModelUnusable(
                "familiarity_outdated",
                "The bundle's statistics of its training images come from another version of DermQueue."
                " `dermqueue gate learn` brings them up to date.",
            )
        return self._familiarity.distances(shares) > self.manifest.familiarity.threshold


def choose_device(name: str, runtime: str = "auto") -> torch.device:
    """Return the device of that name; `auto` is the GPU if runtime and PyTorch compute on one here, else the CPU.

    Raises:
        ConfigurationInvalid: `device_unusable`: CUDA is named, and PyTorch does not compute on a GPU here.
    """
    if name == "cpu" or (name == "auto" and (runtime == "onnxruntime" or not torch.cuda.is_available())):
        return torch.device("cpu")
    try:
        _try_gpu()
    except (RuntimeError, AssertionError) as error:  # the second: PyTorch was built for CPUs alone
        reason = str(error).partition("\n")[0]
        if name == "auto":
            log.warning("gpu_unusable reason=%s", reason)
            return torch.device("cpu")
        raise ConfigurationInvalid(
            "device_unusable",
            f"DERMQUEUE_DEVICE is cuda, but PyTorch cannot compute on a GPU here ({reason}). Look at `nvidia-smi`, the"
            " driver's version and CUDA_VISIBLE_DEVICES, or set DERMQUEUE_DEVICE=cpu.",
        ) from error
    return torch.device("cuda")


def choose_commands_device() -> torch.device:
    """Return the device for a command that needs no other setting than `DERMQUEUE_DEVICE`.

    Raises:
        ConfigurationInvalid: it is malformed, or see `choose_device`.
    """
    return choose_device(read_device())


def _try_gpu() -> None:
    """Add two numbers on the GPU: one for which PyTorch has no kernels is available all the same."""
    torch.ones((), device="cuda").add(1).item()


def describe_device(device: torch.device) -> str:
    """Return a device's human-readable name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def load_model(folder: Path, device: torch.device, runtime: str = "auto", *, with_familiarity: bool = True) -> Model:
    """Verify a bundle and load its network, warmed up; without familiarity, it finds no photograph unfamiliar.

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
