"""Exports a bundle as one ONNX file that ONNX Runtime runs without our code, on a phone or in a browser."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper
from torch import Tensor, nn

from shared.bundle import Manifest, Preprocessing
from shared.errors import ModelUnusable
from worker.frame import TRAINING_QUALITY, TRAINING_SIDE
from worker.model import Model, load_model, load_network
from worker.runtime import Reader, translate

NOTICE = "A decision aid for clinicians, not a diagnosis. It decides nothing alone; a routine is no all-clear."

_AGREEMENT = {"float32": 0.01, "int8": 0.05}
"""By the weights' storage type: the largest difference from torch in a probability and in a scaled map."""

_PHONE_BYTES = 5_900_000
"""6 MB, minus what metadata and scales take."""


class Answer(NamedTuple):
    """The file's outputs: `probabilities` float32 (N, classes), as in a result; `maps` as in `Reading`."""

    probabilities: np.ndarray
    maps: np.ndarray


class _Answering(nn.Module):
    """What the file computes from uint8 pixels (N, side, side, 3)."""

    def __init__(self, reader: Reader, temperature: float):
        super().__init__()
        self.reader, self._temperature = reader, temperature

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        logits, maps, *_ = self.reader(pixels)
        return (logits / self._temperature).softmax(dim=1), maps


def write_onnx(bundle: Path, path: Path, pixels: np.ndarray, *, int8: bool = False) -> None:
    """Write a bundle's network as an ONNX file, unless its outputs for `pixels` differ from torch's.

    Input: `pixels`, uint8 (N, side, side, 3), RGB. Outputs: `probabilities`, float32 (N, classes), and `maps`, float32
    (N, classes, h, w), raw Grad-CAM ≥ 0. `int8` stores the convolutions' weights in half or a quarter of the
    space, so that a light network takes at most 6 MB; it still computes in float32.

    Raises:
        ModelUnusable: the bundle cannot be loaded; `export_disagrees`: the file's outputs differ from torch's.
    """
    model = load_model(bundle, torch.device("cpu"), "torch")
    manifest = model.manifest
    answering = _Answering(Reader(load_network(bundle, manifest), manifest.preprocessing), manifest.temperature)
    file = onnx.load_from_string(translate(answering, manifest.preprocessing.input_side, Answer._fields))
    if int8:
        _shrink(file)
    helper.set_model_props(file, describe(manifest, model.digest, "int8" if int8 else "float32"))
    content = file.SerializeToString()
    _compare(run(content, pixels), model, pixels, _AGREEMENT["int8" if int8 else "float32"])
    path.write_bytes(content)


def describe(manifest: Manifest, digest: str, weights: str) -> dict[str, str]:
    """Return the metadata that anyone who runs the file needs, each value text or JSON."""
    values = {
        "notice": NOTICE,
        "name": manifest.name,
        "version": manifest.version,
        "digest": digest,
        "licence": manifest.licence,
        "sources": manifest.sources,
        "architecture": manifest.architecture,
        "weights": weights,
        "labels": manifest.labels,
        "preprocessing": {
            "steps": [
                {"resize": [TRAINING_SIDE] * 2, "filter": "bicubic", "of": "the whole frame, upright, sRGB"},
                {"jpeg_quality": TRAINING_QUALITY, "subsampling": "4:2:0"},
                *_retouching(manifest.preprocessing),
                {"resize": [manifest.preprocessing.input_side] * 2, "filter": "bilinear"},
            ],
            "pixels": "RGB, 0 to 255; the file itself subtracts the mean and divides by the deviation",
        },
        "operating_points": [point.model_dump() for point in manifest.operating_points],
        "default_operating_point": manifest.default_operating_point,
        "heatmap_scales": manifest.heatmap_scales,
        "measured_on": manifest.measured_on,
        "limits": manifest.limits,
    }
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _retouching(preprocessing: Preprocessing) -> Iterator[dict]:
    """Yield the steps that only some bundles need, and that no browser page can do."""
    if preprocessing.cleaned:
        yield {"paint_over": "hairs and reflections", "by": "DullRazor (Lee et al. 1997), as DermQueue's cleaning.py"}
    if preprocessing.least_light:
        by = "one factor for all values; light is the sixth root of the mean of the values' sixth powers"
        yield {"brighten": f"to a light of {preprocessing.least_light}, if it is less", "by": by}


def run(content: bytes, pixels: np.ndarray) -> Answer:
    """Return the file's outputs for uint8 pixels (N, side, side, 3)."""
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return Answer(*session.run(Answer._fields, {"pixels": pixels}))


def _shrink(file: ModelProto) -> None:
    """Store kernels as float16, and as many of the last ones as int8 as it takes to fit a phone.

    The first ones tolerate rounding least. On a half-trained EfficientNet-Lite0, int8 in all 49 convolutions moved
    probabilities by 0.022 on average; in the first 5 alone, 0.1% of the weights, by 0.020; in the last one by 0.0004.
    Both become float32 again when the file is loaded or run: only storage is reduced, not the arithmetic.
    """
    kernels = [node.input[1] for node in file.graph.node if node.op_type == "Conv"]
    stored = {tensor.name: tensor for tensor in file.graph.initializer}
    values = {name: numpy_helper.to_array(stored[name]) for name in kernels}
    excess_bytes = file.ByteSize() - sum(2 * value.size for value in values.values()) - _PHONE_BYTES
    for name in reversed(kernels):
        file.graph.initializer.remove(stored[name])
        if excess_bytes > 0:
            excess_bytes -= values[name].size
            _store_int8(file.graph, name, values[name])
        else:
            _store_float16(file.graph, name, values[name])


def _store_int8(graph: GraphProto, name: str, values: np.ndarray) -> None:
    """Store int8 from -127 to 127 with a float32 scale per output channel."""
    largest = np.abs(values).reshape(len(values), -1).max(axis=1)
    scales = np.maximum(largest, np.finfo(np.float32).tiny) / 127
    whole = np.rint(values / scales.reshape(-1, *[1] * (values.ndim - 1))).astype(np.int8)
    graph.initializer.append(numpy_helper.from_array(whole, f"{name}.int8"))
    graph.initializer.append(numpy_helper.from_array(scales, f"{name}.scales"))
    inputs = [f"{name}.int8", f"{name}.scales"]
    graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [name], axis=0))


def _store_float16(graph: GraphProto, name: str, values: np.ndarray) -> None:
    graph.initializer.append(numpy_helper.from_array(values.astype(np.float16), f"{name}.half"))
    graph.node.insert(0, helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT))


def _compare(found: Answer, model: Model, pixels: np.ndarray, tolerance: float) -> None:
    expected = model.read(pixels)
    scales = np.array(model.manifest.heatmap_scales).reshape(-1, 1, 1)
    apart = max(
        float(np.abs(found.probabilities - expected.probabilities).max()),
        float(np.abs((found.maps - expected.maps) / scales).max()),
    )
    if not apart <= tolerance:
        raise ModelUnusable(
            "export_disagrees",
            f"The file's outputs differ from torch's by {apart:.3f}; at most {tolerance} was expected."
            " Nothing was written. Please report it.",
        )
