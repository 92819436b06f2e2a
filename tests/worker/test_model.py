"""Bundles as a worker loads them."""

import hashlib
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from shared.bundle import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME
from shared.errors import ConfigurationInvalid, ModelUnusable
from tests.worker.networks import SIDE, TinyNetwork, tiny_manifest, tiny_model, tiny_model_that_knows
from worker import model
from worker.model import Model, choose_device, load_model

CPU = torch.device("cpu")


def write_bundle(folder: Path, weights: dict[str, torch.Tensor]) -> Path:
    """Write a bundle whose digests are right, whatever its weights are."""
    save_file(weights, folder / WEIGHTS_NAME)
    digest = hashlib.sha256((folder / WEIGHTS_NAME).read_bytes()).hexdigest()
    (folder / MANIFEST_NAME).write_text(tiny_manifest(weights_sha256=digest).model_dump_json())
    (folder / CARD_NAME).write_text("# tiny\n")
    return folder


@pytest.fixture
def unusable_gpu(monkeypatch):
    """A GPU that CUDA lists, but for which PyTorch has no kernels."""

    def fail() -> None:
        raise RuntimeError("CUDA error: no kernel image is available\nCompile with `TORCH_USE_CUDA_DSA`")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(model, "_try_gpu", fail)


def test_a_gpu_that_computes_is_chosen_unless_the_cpu_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(model, "_try_gpu", lambda: None)
    assert [choose_device(name).type for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]


def test_onnx_runtime_computes_on_the_cpu_beside_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(model, "_try_gpu", lambda: None)
    devices = [choose_device("auto", runtime).type for runtime in ("auto", "torch", "onnxruntime")]
    assert devices == ["cuda", "cuda", "cpu"]


def test_the_cpu_takes_the_place_of_a_gpu_that_does_not_compute_and_the_log_says_why(unusable_gpu, caplog):
    assert choose_device("auto") == CPU
    assert caplog.messages == ["gpu_unusable reason=CUDA error: no kernel image is available"]


def test_a_gpu_that_is_named_and_does_not_compute_is_refused_with_the_reason(unusable_gpu):
    with pytest.raises(ConfigurationInvalid, match="no kernel image is available") as refusal:
        choose_device("cuda")
    assert refusal.value.code == "device_unusable"


def test_this_machines_gpu_is_tried(caplog):
    there_is_one = torch.cuda.is_available()
    assert (choose_device("auto").type, caplog.messages) == ("cuda" if there_is_one else "cpu", [])
    with nullcontext() if there_is_one else pytest.raises(ConfigurationInvalid, match="cannot compute on a GPU"):
        assert choose_device("cuda").type == "cuda"


def test_a_missing_bundle_is_named(tmp_path):
    with pytest.raises(ModelUnusable, match=MANIFEST_NAME) as refusal:
        load_model(tmp_path, CPU)
    assert refusal.value.code == "bundle_missing"


def test_weights_with_one_changed_byte_are_refused(tmp_path):
    folder = write_bundle(tmp_path, {"x": torch.zeros(8)})
    data = bytearray((folder / WEIGHTS_NAME).read_bytes())
    data[-1] ^= 1
    (folder / WEIGHTS_NAME).write_bytes(data)
    with pytest.raises(ModelUnusable, match="sha256") as refusal:
        load_model(folder, CPU)
    assert refusal.value.code == "bundle_damaged"


def test_weights_of_another_network_are_refused(tmp_path):
    with pytest.raises(ModelUnusable, match="does not hold a resnet50-v1") as refusal:
        load_model(write_bundle(tmp_path, TinyNetwork().state_dict()), CPU)
    assert refusal.value.code == "bundle_damaged"


def test_a_file_that_is_not_safetensors_is_refused_even_if_its_digest_matches(tmp_path):
    (tmp_path / WEIGHTS_NAME).write_bytes(b"not weights")
    digest = hashlib.sha256(b"not weights").hexdigest()
    (tmp_path / MANIFEST_NAME).write_text(tiny_manifest(weights_sha256=digest).model_dump_json())
    (tmp_path / CARD_NAME).write_text("# tiny\n")
    with pytest.raises(ModelUnusable, match="does not hold"):
        load_model(tmp_path, CPU)


def test_probabilities_are_the_softmax_of_logits_over_the_temperature():
    network = TinyNetwork()
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.inference_mode():
        logits = network(normalised)[0].double().numpy() / 2.0
    by_hand = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    reading = tiny_model(network).read(pixels)
    np.testing.assert_allclose(reading.probabilities, by_hand, rtol=1e-5)
    assert reading.maps.dtype == np.float32
    assert reading.maps.min() >= 0


@pytest.mark.parametrize(
    ("logits", "temperature", "probabilities"),
    [((3e38, -3e38, 0), 0.8, (1, 0, 0)), ((3e38, -3e38, 0), 1e-300, None), ((float("-inf"), 0, 0), 1.0, None)],
)
def test_extreme_logits_give_probabilities_or_are_refused(logits, temperature, probabilities):
    model = tiny_model(temperature=temperature)
    model._runtime = lambda _: (np.float32([logits]), np.zeros((1, 3, 4, 4), np.float32), np.ones((1, 5), np.float32))
    pixels = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    if probabilities:
        assert tuple(model.read(pixels).probabilities[0]) == probabilities
        return
    with pytest.raises(ModelUnusable, match="model_output_invalid"):
        model.read(pixels)


def test_a_photograph_reads_the_same_alone_as_in_a_batch():
    model = tiny_model()
    pixels = np.random.default_rng(1).integers(0, 256, (5, SIDE, SIDE, 3), dtype=np.uint8)
    together = model.read(pixels)
    for position in range(5):
        alone = model.read(pixels[position : position + 1])
        np.testing.assert_allclose(alone.probabilities[0], together.probabilities[position], atol=1e-6)
        np.testing.assert_allclose(alone.maps[0], together.maps[position], atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("spoilt", range(3), ids=["logits", "maps", "shares"])
def test_a_value_that_is_not_finite_is_refused_in_whichever_output(spoilt, value):
    outputs = [np.zeros(shape, np.float32) for shape in ((1, 3), (1, 3, 4, 4), (1, 5))]
    outputs[spoilt].flat[-1] = value
    model = Model(tiny_manifest(), "d" * 64, "# tiny", lambda pixels: tuple(outputs))
    with pytest.raises(ModelUnusable) as refusal:
        model.read(np.zeros((1, SIDE, SIDE, 3), np.uint8))
    assert refusal.value.code == "model_output_invalid"


def test_shares_are_of_the_maps_that_the_classifier_sees():
    network = TinyNetwork()
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    normalised = (torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255 - 0.5) / 0.25
    with torch.inference_mode():
        averages = network(normalised)[1].mean(dim=(2, 3))
    by_hand = (averages / averages.sum(dim=1, keepdim=True)).sqrt()
    np.testing.assert_allclose(tiny_model(network).read(pixels).shares[0], by_hand.numpy(), rtol=1e-5)


def test_only_a_bundle_with_statistics_tells_which_photographs_are_unlike_its_training_images():
    pixels = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    pixels[1, ..., 2] //= 8
    assert tiny_model_that_knows(pixels[:1]).read(pixels).unfamiliar.tolist() == [False, True]
    assert tiny_model().read(pixels).unfamiliar.tolist() == [False, False]
