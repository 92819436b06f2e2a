"""Both runtimes give the same outputs, for the shipped network and for others."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch

from shared.bundle import Preprocessing, find_bundle, read_manifest
from shared.errors import ModelUnusable
from shared.settings import Settings
from tests.worker.networks import SIDE, TinyNetwork
from worker import runtime
from worker.model import load_network
from worker.runtime import OnnxRuntime, Reader, TorchRuntime, make_runtime

CPU = torch.device("cpu")
SHIPPED = find_bundle(Settings.model_fields["model"].default)


def pixels_of(n: int, side: int) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def tiny_reader(normalisation: str = "imagenet") -> Reader:
    preprocessing = Preprocessing(
        input_side=SIDE, normalisation=normalisation, mean=(0.5, 0.4, 0.3), std=(0.25, 0.2, 0.3)
    )
    return Reader(TinyNetwork(), preprocessing)


def assert_same(one, other, atol: float) -> None:
    for mine, theirs in zip(one, other, strict=True):
        assert mine.dtype == theirs.dtype == np.float32
        np.testing.assert_allclose(mine, theirs, atol=atol)


def test_the_shipped_networks_logits_and_maps_are_torchs():
    manifest = read_manifest(SHIPPED)
    side = manifest.preprocessing.input_side
    reader = Reader(load_network(SHIPPED, manifest), manifest.preprocessing)
    pixels = pixels_of(2, side)
    assert_same(OnnxRuntime(reader, side)(pixels), TorchRuntime(reader, CPU)(pixels), 1e-5)


@pytest.mark.parametrize("normalisation", ["imagenet", "image-mean"])
@pytest.mark.parametrize("n", [1, 5])
def test_a_batch_of_any_size_reads_the_same(normalisation, n):
    reader = tiny_reader(normalisation)
    pixels = pixels_of(n, SIDE)
    assert_same(OnnxRuntime(reader, SIDE)(pixels), TorchRuntime(reader, CPU)(pixels), 1e-6)


@pytest.mark.parametrize(("difference", "is_refused"), [(0.0005, False), (0.002, True)])
def test_an_exported_graph_may_differ_from_torch_by_rounding_and_no_more(monkeypatch, difference, is_refused):
    reader = tiny_reader()
    torch.nn.init.zeros_(reader.network.classifier.bias)
    translated = runtime.translate(reader, SIDE)
    monkeypatch.setattr(runtime, "translate", lambda *_: translated)
    torch.nn.init.constant_(reader.network.classifier.bias, difference)
    with pytest.raises(ModelUnusable, match="differs from torch's") if is_refused else nullcontext():
        OnnxRuntime(reader, SIDE)


def test_an_exported_graph_with_other_outputs_is_refused(monkeypatch):
    other = runtime.translate(Reader(TinyNetwork(seed=1), tiny_reader()._preprocessing), SIDE)
    monkeypatch.setattr(runtime, "translate", lambda *_: other)
    with pytest.raises(ModelUnusable, match="DERMQUEUE_RUNTIME=torch") as refusal:
        OnnxRuntime(tiny_reader(), SIDE)
    assert refusal.value.code == "runtime_disagrees"


@pytest.mark.parametrize(
    ("name", "device", "kind"),
    [
        ("auto", "cpu", OnnxRuntime),
        ("auto", "meta", TorchRuntime),
        ("torch", "cpu", TorchRuntime),
        ("onnxruntime", "cpu", OnnxRuntime),
    ],
)
def test_a_cpu_gets_onnx_runtime_unless_told_otherwise(name, device, kind):
    assert isinstance(make_runtime(name, tiny_reader(), SIDE, torch.device(device)), kind)
