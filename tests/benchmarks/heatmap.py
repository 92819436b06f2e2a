"""What the heatmap costs on the shipped network: the forward pass alone, with the maps of all classes, and captum's.

`python -m tests.benchmarks.heatmap`
"""

import click
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


class WithoutMaps(Reader):
    """The same graph that ends with the logits."""

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, _ = self.network(normalise(pixels, self._preprocessing))
        return logits, logits, logits


def measure(rounds: int) -> dict[str, dict[str, float]]:
    """Return for each batch size the median seconds of every contender."""
    folder = find_bundle(Settings.model_fields["model"].default)
    manifest = read_manifest(folder)
    side, preprocessing = manifest.preprocessing.input_side, manifest.preprocessing
    network = load_network(folder, manifest)
    cpu = torch.device("cpu")
    runtimes = {
        "torch, forward only": TorchRuntime(WithoutMaps(network, preprocessing), cpu),
        "torch, with maps": TorchRuntime(Reader(network, preprocessing), cpu),
        "ONNX Runtime, forward only": OnnxRuntime(WithoutMaps(network, preprocessing), side),
        "ONNX Runtime, with maps": OnnxRuntime(Reader(network, preprocessing), side),
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


@click.command(help=__doc__)
@click.option("--rounds", default=9, show_default=True, help="Of which medians are taken.")
def main(rounds: int) -> None:
    for batch, seconds in measure(rounds).items():
        click.echo(f"Batches of {batch}, {torch.get_num_threads()} threads")
        for name, taken_s in seconds.items():
            click.echo(f"  {name:28s} {int(batch) / taken_s:6.1f} images/s")
        for kind in ("torch", "ONNX Runtime"):
            ratio = seconds[f"{kind}, with maps"] / seconds[f"{kind}, forward only"]
            click.echo(f"  {kind}: with maps over forward only {ratio:.3f}")


if __name__ == "__main__":
    main()
