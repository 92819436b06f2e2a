"""What a heatmap costs on the shipped network beside the forward pass alone: ours, and those of other libraries.

Ours are the maps of all classes. The others' are one class's, for which they compute gradients. Captum returns no
logits with them: its time lacks the pass that classifies.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.nn.functional import interpolate

from deploy.commands.demo import SAMPLES
from shared.bundle import Preprocessing, read_manifest
from shared.domain import CLASSES
from shared.photograph import decode_photograph
from tests.benchmarks.peers.libraries import LIBRARIES, Explain, running_libraries
from tests.benchmarks.peers.running import bundle_folder
from tests.benchmarks.rounds import time_in_turns
from tests.worker.networks import LogitsAlone
from worker.frame import DECODED_SIDE, squash
from worker.model import load_network
from worker.network import normalise
from worker.runtime import OnnxRuntime, Reader, TorchRuntime

BATCHES = (1, 16)
FORWARD, OURS = "ONNX Runtime, forward only", "ONNX Runtime, with maps"
TORCH_FORWARD, TORCH_OURS = "torch, forward only", "torch, with maps"
CAPTUM = "captum"
_BARE = {FORWARD, TORCH_FORWARD}
_MELANOMA = CLASSES.index("melanoma")
_LARGEST_DIFFERENCE = 0.01
_LEAST = 1e-7
"""What pytorch-grad-cam adds to a maximum, which may be 0."""


class WithoutMaps(Reader):
    """The same graph that ends with the logits."""

    def forward(self, pixels: Tensor) -> tuple[Tensor]:
        logits, _ = self.network(normalise(pixels, self._preprocessing))
        return (logits,)


@dataclass(frozen=True)
class Batch:
    """N photographs: `pixels` uint8 (N, side, side, 3); `inputs` float32 (N, 3, side, side), also in `file`, a .npy."""

    pixels: np.ndarray
    inputs: Tensor
    file: Path


Run = Callable[[Batch], object]


def measure(quick: bool) -> dict:
    """Return medians for batches of 1 and 16: seconds, images per second and, over the forward pass alone, ratios.

    `differences` says how far ours is from each library's maps, relative to theirs (the norm of the difference).
    """
    bundle = bundle_folder()
    manifest = read_manifest(bundle)
    with tempfile.TemporaryDirectory() as name, running_libraries() as explain:
        runs = make_runs(load_network(bundle, manifest), manifest.preprocessing, explain)
        batches = {size: read_samples(size, manifest.preprocessing, Path(name)) for size in BATCHES}
        seconds = {size: time_runs(runs, batch, rounds=3 if quick else 9) for size, batch in batches.items()}
        differences = compare(runs, batches[max(BATCHES)], explain)
    assert max(differences.values()) < _LARGEST_DIFFERENCE, differences
    over_forward = {size: find_ratios(taken) for size, taken in seconds.items()}
    return {
        "ratios": {"heatmap_over_forward": over_forward[max(BATCHES)][OURS]},
        "over_forward": over_forward,
        "images_per_s": {size: {who: size / taken_s for who, taken_s in of.items()} for size, of in seconds.items()},
        "seconds": seconds,
        "threads": torch.get_num_threads(),
        "differences": differences,
    }


def make_runs(network: nn.Module, preprocessing: Preprocessing, explain: Explain) -> dict[str, Run]:
    """Return by name what takes a batch through the network, with a heatmap or without."""
    bare, whole = WithoutMaps(network, preprocessing), Reader(network, preprocessing)
    side, cpu = preprocessing.input_side, torch.device("cpu")
    runtimes = {
        TORCH_FORWARD: TorchRuntime(bare, cpu),
        TORCH_OURS: TorchRuntime(whole, cpu),
        FORWARD: OnnxRuntime(bare, side),
        OURS: OnnxRuntime(whole, side),
    }
    captum = LayerGradCam(LogitsAlone(network), network.features[-1])
    return {
        **{who: lambda batch, runtime=runtime: runtime(batch.pixels) for who, runtime in runtimes.items()},
        CAPTUM: lambda batch: captum.attribute(batch.inputs, target=_MELANOMA, relu_attributions=True),
        **{library: lambda batch, library=library: explain(library, batch.file) for library in LIBRARIES},
    }


def read_samples(size: int, preprocessing: Preprocessing, folder: Path) -> Batch:
    """Return this many of the shipped photographs, each in turn."""
    photographs = islice(cycle(sorted(SAMPLES.glob("*.jpg"))), size)
    pixels = np.stack(
        [squash(decode_photograph(file.read_bytes(), DECODED_SIDE), preprocessing) for file in photographs]
    )
    batch = Batch(pixels, normalise(torch.from_numpy(pixels), preprocessing), folder / f"{size}.npy")
    np.save(batch.file, batch.inputs.numpy())
    return batch


def time_runs(runs: Mapping[str, Run], batch: Batch, rounds: int) -> dict[str, float]:
    return time_in_turns({who: partial(run, batch) for who, run in runs.items()}, rounds)


def find_ratios(seconds: Mapping[str, float]) -> dict[str, float]:
    """Return what each takes over the forward pass alone, which is torch's for all but ours by ONNX Runtime."""
    forward = {who: seconds[FORWARD if who == OURS else TORCH_FORWARD] for who in seconds if who not in _BARE}
    return {who: seconds[who] / forward_s for who, forward_s in forward.items()}


def compare(runs: Mapping[str, Run], batch: Batch, explain: Explain) -> dict[str, float]:
    """Return by library the norm of the difference to our maps, divided by that of theirs."""
    ours = torch.from_numpy(runs[OURS](batch)[1][:, _MELANOMA])
    found = {CAPTUM: find_difference(ours, runs[CAPTUM](batch)[:, 0].detach())}
    for library in LIBRARIES:
        file = batch.file.with_suffix(".maps.npy")
        explain(library, batch.file, file)
        theirs = torch.from_numpy(np.load(file))
        found[library] = find_difference(stretch(ours, theirs.shape[1:]), theirs)
    return found


def stretch(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return maps (N, h, w) as pytorch-grad-cam and torchcam do: in their size, each stretched to [0, 1]."""
    large = interpolate(maps[:, None], size, mode="bilinear")[:, 0]
    large = large - large.amin(dim=(1, 2), keepdim=True)
    return large / (large.amax(dim=(1, 2), keepdim=True) + _LEAST)


def find_difference(ours: Tensor, theirs: Tensor) -> float:
    return float(torch.linalg.norm(ours - theirs) / torch.linalg.norm(theirs))
