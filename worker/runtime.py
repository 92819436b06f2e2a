"""Runs the network over a batch: with torch or, on a CPU, with ONNX Runtime, which takes about half the time there."""

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np
import onnxruntime
import torch
from torch import Tensor, nn

from shared.bundle import Preprocessing
from shared.errors import ModelUnusable
from worker.familiarity import activation_shares
from worker.gradcam import class_activation_maps
from worker.network import normalise

_OPSET = 20
_LEAST_SIDE = 32
"""Side in px of the smallest input that a network takes: enough to count its outputs."""

_AGREEMENT = 1e-3
"""Largest difference in an output that rounding explains, with ample margin: the shipped network's is near 1e-6."""


class Runtime(Protocol):
    """Turns uint8 pixels (N, side, side, 3) into float32 arrays.

    Logits (N, classes), raw Grad-CAM (N, classes, h, w), and of each stage that the network shows,
    `worker.familiarity.activation_shares` (N, K).
    """

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]: ...


class Reader(nn.Module):
    """All that is computed on the device, as one graph: normalisation, network, class activation maps, shares."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        logits, stages = self.network.look(normalise(pixels, self._preprocessing))
        maps = class_activation_maps(stages[-1], self.network.classifier.weight)
        return logits, maps, *map(activation_shares, stages)


class TorchRuntime:
    """Runs a reader with torch, on a CPU or a GPU."""

    def __init__(self, reader: Reader, device: torch.device):
        self._reader, self._device = reader.to(device, memory_format=torch.channels_last), device

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        outputs = self._reader(torch.from_numpy(pixels).to(self._device))
        return tuple(output.float().cpu().numpy() for output in outputs)


class OnnxRuntime:
    """Runs a reader with ONNX Runtime, on as many CPU threads as torch would use.

    A single photograph gets all threads. Of several, each gets one: threads that share every layer wait for each other
    at its end, and for whatever decodes the next batch on their cores meanwhile.
    """

    def __init__(self, reader: Reader, side: int):
        """Export the reader to ONNX.

        Raises:
            ModelUnusable: `runtime_disagrees`: the exported graph's outputs differ from the reader's.
        """
        threads, translated = torch.get_num_threads(), translate(reader, side)
        self._together, self._apart = _open_session(translated, threads), _open_session(translated, 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="forward")
        _compare(self, reader, side)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        if len(pixels) == 1:
            return tuple(self._together.run(None, {"pixels": pixels}))
        each = self._pool.map(lambda one: self._apart.run(None, {"pixels": one[None]}), pixels)
        return tuple(np.concatenate(output) for output in zip(*each, strict=True))


def make_runtime(name: str, reader: Reader, side: int, device: torch.device) -> Runtime:
    """Return the runtime of that name; `auto` is ONNX Runtime on a CPU and torch elsewhere."""
    if name == "onnxruntime" or (name == "auto" and device.type == "cpu"):
        return OnnxRuntime(reader, side)
    return TorchRuntime(reader, device)


def _open_session(translated: bytes, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin while they wait take cores from those that decode the next batch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(translated, options, ["CPUExecutionProvider"])


def translate(module: nn.Module, side: int, outputs: Sequence[str] = ()) -> bytes:
    """Export a module whose input is `pixels`, uint8 (N, side, side, 3), and return the ONNX file's content.

    Unless they are named, its outputs are numbered.
    """
    file = io.BytesIO()
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    if not outputs:
        with torch.inference_mode():
            n_outputs = len(module(example[:1, :_LEAST_SIDE, :_LEAST_SIDE]))
        outputs = [f"output_{position}" for position in range(n_outputs)]
    with warnings.catch_warnings():
        # Tracing takes a third of the time of its successor, and a worker waits for it at every start.
        warnings.simplefilter("ignore", DeprecationWarning)
        # A padding's four numbers stay four small nodes of the graph, which ONNX Runtime folds itself.
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)
        torch.onnx.export(
            module,
            (example,),
            file,
            input_names=["pixels"],
            output_names=list(outputs),
            dynamic_axes={name: {0: "images"} for name in ("pixels", *outputs)},
            opset_version=_OPSET,
            dynamo=False,
        )
    return file.getvalue()


def _compare(runtime: OnnxRuntime, reader: Reader, side: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    theirs = TorchRuntime(reader, torch.device("cpu"))(pixels)
    alone, together = runtime(pixels[:1]), runtime(pixels[1:])
    ours = (np.concatenate(both) for both in zip(alone, together, strict=True))
    if not all(np.allclose(one, other, atol=_AGREEMENT) for one, other in zip(ours, theirs, strict=True)):
        raise ModelUnusable(
            "runtime_disagrees",
            "ONNX Runtime's output differs from torch's. Start the worker with DERMQUEUE_RUNTIME=torch, and report it.",
        )
