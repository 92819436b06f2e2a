"""From upload to heatmap: real processes, real servers, the shipped model."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam
from PIL import Image

from deploy.commands.demo import SAMPLES
from shared.bundle import find_bundle
from shared.domain import CLASSES
from shared.photograph import decode_photograph
from shared.settings import Settings
from tests import images
from tests.worker.networks import LogitsAlone
from worker.frame import squash
from worker.model import load_model, load_network
from worker.network import normalise

PHOTOGRAPHS = sorted(SAMPLES.glob("*.jpg"))


SHIPPED = find_bundle(Settings.model_fields["model"].default)


@pytest.fixture(scope="module")
def shipped():
    return load_model(SHIPPED, torch.device("cpu"))


def captums_map(model, photograph: bytes, class_index: int) -> np.ndarray:
    """Grad-CAM of the shipped network at its last block, by another library and through gradients."""
    preprocessing = model.manifest.preprocessing
    pixels = torch.from_numpy(squash(decode_photograph(photograph, 2 * preprocessing.input_side), preprocessing)[None])
    inputs = normalise(pixels, preprocessing)
    network = load_network(SHIPPED, model.manifest)
    explain = LayerGradCam(LogitsAlone(network), network.features[-1])
    return explain.attribute(inputs, target=class_index, relu_attributions=True)[0, 0].detach().numpy()


def test_a_clinic_submits_a_photograph_and_fetches_its_result_and_every_heatmap(stack, shipped):
    photograph = PHOTOGRAPHS[0].read_bytes()
    answer = stack.submit(photograph, reference="0042", priority="urgent", age="61", sex="female", site="back")
    assert answer.status_code == 202
    (case,) = stack.finish([answer.json()["id"]])
    assert (case["state"], case["reference"], case["error"]) == ("succeeded", "0042", None)
    result = case["result"]
    assert sum(result["probabilities"].values()) == pytest.approx(1)
    assert result["model"] == {
        "name": shipped.manifest.name,
        "version": shipped.manifest.version,
        "digest": shipped.digest,
    }
    above = result["melanoma_probability"] >= result["operating_point"]["threshold"]
    assert result["decision"] == ("refer" if above else "routine")
    reviewer = stack.client("reviewer_key")
    with reviewer:
        overlay = reviewer.get(case["links"]["heatmap"])
        assert Image.open(io.BytesIO(overlay.content)).format == "PNG"
        assert reviewer.get(case["links"]["image"]).content == photograph
        for position, name in enumerate(CLASSES):
            raw = reviewer.get(case["links"]["heatmap"], params={"class": name, "style": "raw"})
            ours, theirs = np.load(io.BytesIO(raw.content)), captums_map(shipped, photograph, position)
            assert np.linalg.norm(ours - theirs) <= 1e-3 * np.linalg.norm(theirs)


def test_the_model_in_use_is_described(stack, shipped):
    current = stack.http.get("/v1/models/current").json()
    assert current["digest"] == shipped.digest
    assert "decides nothing alone" in current["card"]


@pytest.mark.parametrize("kind", ["image_truncated", "image_flat"])
def test_a_photograph_that_only_decoding_finds_broken_ends_as_rejected_with_its_code(stack, kind):
    data = next(data for data, code in images.refused_when_decoded().values() if code == kind)
    (case,) = stack.finish([stack.submit(data).json()["id"]])
    assert (case["state"], case["error"]["code"], case["result"]) == ("rejected", kind, None)


def test_a_worker_that_is_killed_in_the_middle_loses_nothing_and_duplicates_nothing(stack):
    ids = [stack.submit(photograph_of(number)).json()["id"] for number in range(48)]
    stack.finish(ids[:1])
    stack.kill("worker")
    assert [case["state"] for case in stack.finish(ids)] == ["succeeded"] * len(ids)
    listed = stack.http.get("/v1/cases", params={"limit": 200}).json()["cases"]
    assert len({case["id"] for case in listed}) == len(listed)
    assert len(set(ids)) == len(ids)


def photograph_of(number: int) -> bytes:
    return PHOTOGRAPHS[number % len(PHOTOGRAPHS)].read_bytes()


def test_a_small_photograph_from_a_phone_is_turned_upright(stack):
    upright = images.telling_jpeg(images.lesion(), orientation=6)
    (case,) = stack.finish([stack.submit(upright).json()["id"]])
    assert (case["image"]["width"], case["image"]["height"]) == (240, 320)
    with stack.client("reviewer_key") as reviewer:
        stored = reviewer.get(case["links"]["image"]).content
        overlay = Image.open(io.BytesIO(reviewer.get(case["links"]["heatmap"]).content))
    assert images.SECRET not in stored
    assert images.GPS_RATIONALS not in stored
    assert overlay.height > overlay.width


def test_the_samples_that_are_shipped_are_named_with_their_source():
    sources = Path(SAMPLES / "SOURCES.md").read_text()
    assert len(PHOTOGRAPHS) >= 8
    assert all(file.name in sources for file in PHOTOGRAPHS)
