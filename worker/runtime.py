"""What runs the network over a batch: torch, or, on a CPU, ONNX Runtime, which needs about half the time there."""

import io
import warnings
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
_OUTPUTS = ("logits", "maps", "shares")
_AGREEMENT = 1e-3
"""Largest difference of two logits that rounding explains, with much room: the shipped network's is near 1e-6."""


class Runtime(Protocol):
    """Turns uint8 pixels (N, side, side, 3) into three float32 arrays.

    Logits (N, classes), raw Grad-CAM (N, classes, h, w), and `worker.familiarity.activation_shares` (N, K).
    """

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]: ...


class Reader(nn.Module):
    """All that happens to a batch on the device, as one graph: normalisation, network, class activation maps."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing):
        super().__init__()
        self.network, self._preprocessing = network, preprocessing
        self.eval()

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, stages = self.network.look(normalise(pixels, self._preprocessing))
        return logits, class_activation_maps(stages[-1], self.network.classifier.weight), activation_shares(stages)


class TorchRuntime:
    """Runs a reader with torch, on a CPU or a GPU."""

    def __init__(self, reader: Reader, device: torch.device):
        self._reader, self._device = reader.to(device, memory_format=torch.channels_last), device

    @torch.inference_mode()
    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        outputs = self._reader(torch.from_numpy(pixels).to(self._device))
        return tuple(output.float().cpu().numpy() for output in outputs)


class OnnxRuntime:
    """Runs a reader with ONNX Runtime, on as many of the CPU's threads as torch would take.

    One photograph alone gets all threads. Of several, each is one thread's: threads that share every layer wait for
    each other at its end, and for whatever decodes the next batch on their processor meanwhile.
    """

    def __init__(self, reader: Reader, side: int):
        """Translate the reader.

        Raises:
            ModelUnusable: `runtime_disagrees`: what the translation gives is not what the reader gives.
        """
        threads, translated = torch.get_num_threads(), translate(reader, side)
        self._together, self._apart = _open_session(translated, threads), _open_session(translated, 1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="forward")
        _compare(self, reader, side)

    def __call__(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
    # Threads that spin while they wait take the processor away from those that decode the next batch.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(translated, options, ["CPUExecutionProvider"])


def translate(module: nn.Module, side: int, outputs: tuple[str, ...] = _OUTPUTS) -> bytes:
    """Return as an ONNX file what a module makes of `pixels`, uint8 (N, side, side, 3)."""
    file = io.BytesIO()
    example = torch.zeros((2, side, side, 3), dtype=torch.uint8)
    with warnings.catch_warnings():
        # Tracing takes a third of the time of its successor, for which a worker would wait at every start.
        warnings.simplefilter("ignore", DeprecationWarning)
        # A padding's four numbers stay four small nodes of the graph, which ONNX Runtime folds.
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
            "ONNX Runtime's answer differs from torch's. Start the worker with DERMQUEUE_RUNTIME=torch, and report it.",
        )
