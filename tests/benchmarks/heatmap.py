"""What the heatmap costs on the shipped network: the forward pass alone, with the maps of all classes, and captum's."""

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import Tensor

from shared.bundle import find_bundle, read_manifest
from shared.settings import Settings
from tests.benchmarks.rounds import time_in_turns
from tests.worker.networks import LogitsAlone
from worker.model import load_network
from worker.network import normalise
from worker.runtime import OnnxRuntime, Reader, TorchRuntime

BATCHES = (1, 16)
FORWARD, OURS = "ONNX Runtime, forward only", "ONNX Runtime, with maps"


class WithoutMaps(Reader):
    """The same graph that ends with the logits."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits, _ = self.network(normalise(pixels, self._preprocessing))
        return logits, logits


def measure(quick: bool) -> dict:
    """Return for each batch size the median seconds of every contender, and the ratio that the worker's runtime has."""
    seconds = time_batches(rounds=3 if quick else 9)
    largest = seconds[str(max(BATCHES))]
    return {"ratios": {"heatmap_over_forward": largest[OURS] / largest[FORWARD]}, "seconds": seconds}


def time_batches(rounds: int) -> dict[str, dict[str, float]]:
    """Return for each batch size the median seconds of every contender."""
    folder = find_bundle(Settings.model_fields["model"].default)
    manifest = read_manifest(folder)
    side, preprocessing = manifest.preprocessing.input_side, manifest.preprocessing
    network = load_network(folder, manifest)
    cpu = torch.device("cpu")
    runtimes = {
        "torch, forward only": TorchRuntime(WithoutMaps(network, preprocessing), cpu),
        "torch, with maps": TorchRuntime(Reader(network, preprocessing), cpu),
        FORWARD: OnnxRuntime(WithoutMaps(network, preprocessing), side),
        OURS: OnnxRuntime(Reader(network, preprocessing), side),
    }
    captum = LayerGradCam(LogitsAlone(network), network.features[-1])
    found = {}
    for batch in BATCHES:
        pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
        contenders = {name: lambda run=run, pixels=pixels: run(pixels) for name, run in runtimes.items()}
        contenders["captum, one class"] = lambda pixels=pixels: explain(
            captum, normalise(torch.tensor(pixels), preprocessing)
        )
        found[str(batch)] = time_in_turns(contenders, rounds)
    return found


def explain(captum: LayerGradCam, inputs: Tensor) -> Tensor:
    return captum.attribute(inputs, target=0, relu_attributions=True)
