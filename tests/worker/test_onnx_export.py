"""The exported file: its outputs are the bundle's, and it holds all that is needed to use it."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from shared.bundle import read_manifest
from shared.errors import ModelUnusable
from tests.worker.networks import preprocess_to, tiny_manifest
from tests.worker.training.bundles import write_light_bundle
from worker import onnx_export
from worker.model import load_model, load_network
from worker.onnx_export import NOTICE, describe, write_onnx

SIDE = 64
PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
ROUNDING = {"float32": 1e-4, "int8": 0.05}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_light_bundle(tmp_path_factory.mktemp("bundles") / "light", SIDE)


@pytest.fixture(scope="module", params=["float32", "int8"])
def file(request, bundle) -> Path:
    path = bundle.parent / f"{request.param}.onnx"
    write_onnx(bundle, path, PIXELS, int8=request.param == "int8")
    return path


def run(file: Path, pixels: np.ndarray) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert [(given.name, given.type, given.shape[1:]) for given in session.get_inputs()] == [
        ("pixels", "tensor(uint8)", [SIDE, SIDE, 3])
    ]
    assert [given.name for given in session.get_outputs()] == ["probabilities", "maps"]
    return session.run(None, {"pixels": pixels})


def test_onnx_runtime_alone_gets_the_bundles_probabilities_and_maps_for_any_number_of_photographs(bundle, file):
    expected = load_model(bundle, torch.device("cpu"), "torch").read(PIXELS)
    for n in (1, 3):
        probabilities, maps = run(file, PIXELS[:n])
        np.testing.assert_allclose(probabilities, expected.probabilities[:n], atol=ROUNDING[file.stem])
        np.testing.assert_allclose(maps, expected.maps[:n], atol=ROUNDING[file.stem])
        np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert maps.shape == (3, 3, 2, 2)
    assert 0 <= maps.min() < maps.max()


def test_its_metadata_tell_how_to_use_it_and_that_it_gives_no_diagnosis(bundle, file):
    said = onnxruntime.InferenceSession(file).get_modelmeta().custom_metadata_map
    model, manifest = load_model(bundle, torch.device("cpu"), "torch"), read_manifest(bundle)
    assert (said["notice"], said["licence"], said["name"], said["version"]) == (NOTICE, "MIT", "tiny", "1")
    assert said["digest"] == model.digest
    assert tuple(json.loads(said["labels"])) == manifest.labels
    assert tuple(json.loads(said["heatmap_scales"])) == manifest.heatmap_scales
    assert json.loads(said["operating_points"])[0]["threshold"] == manifest.operating_point().threshold
    assert said["default_operating_point"] == "screening"
    assert json.loads(said["preprocessing"])["steps"][-1]["resize"] == [SIDE, SIDE]
    assert said["weights"] == file.stem


def test_its_metadata_say_that_hairs_are_painted_over_and_dark_frames_brightened_first():
    preprocessing = preprocess_to(SIDE, cleaned=True).model_copy(update={"least_light": 150})
    said = describe(tiny_manifest(preprocessing=preprocessing), "d" * 64, "float32")
    steps = json.loads(said["preprocessing"])["steps"]
    assert [next(iter(step)) for step in steps] == ["resize", "jpeg_quality", "paint_over", "brighten", "resize"]


def test_int8_spares_the_first_convolutions_and_fits_a_phone(file):
    weights = {tensor.name: tensor for tensor in onnx.load(file).graph.initializer if len(tensor.dims) == 4}
    if file.stem == "float32":
        assert {tensor.data_type for tensor in weights.values()} == {onnx.TensorProto.FLOAT}
        return
    kinds = [tensor.data_type for tensor in weights.values()]
    assert set(kinds) == {onnx.TensorProto.INT8, onnx.TensorProto.FLOAT16}
    assert kinds == sorted(kinds)  # they are written from the last to the first
    assert file.stat().st_size < 6e6


def test_a_file_that_disagrees_with_torch_is_not_written(bundle, tmp_path, monkeypatch):
    network = load_network(bundle, read_manifest(bundle))
    network.classifier.bias.data[0] += 1
    monkeypatch.setattr(onnx_export, "load_network", lambda *_: network)
    with pytest.raises(ModelUnusable, match="differ from torch's") as refusal:
        write_onnx(bundle, tmp_path / "wrong.onnx", PIXELS)
    assert refusal.value.code == "export_disagrees"
    assert not (tmp_path / "wrong.onnx").exists()
