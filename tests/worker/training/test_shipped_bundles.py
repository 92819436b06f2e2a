"""What the shipped bundles claim: each is complete, and its figures and file can be reproduced from it."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from deploy.commands.demo import SAMPLES
from shared.bundle import EXPERIMENTS_NAME, SHIPPED_BUNDLES, Preprocessing, read_card, read_manifest, verify_weights
from shared.photograph import decode_photograph
from tests.deploy.pages import REPOSITORY
from worker.familiarity import read_familiarity
from worker.frame import DECODED_SIDE, squash
from worker.model import load_model
from worker.training.calibration import POINTS, calibrate, describe_points, read_nested
from worker.training.card import list_limits
from worker.training.figures import measure
from worker.training.predictions import PREDICTIONS_NAME, read_predictions
from worker.training.report import markdown_table, network_table

PORTABLE = SHIPPED_BUNDLES / "portable"


@pytest.mark.parametrize("name", ["open", "research", "portable"])
def test_each_is_whole_and_small_enough_and_says_what_was_tried(name):
    folder = SHIPPED_BUNDLES / name
    manifest = read_manifest(folder)
    verify_weights(folder, manifest)
    assert read_familiarity(folder, manifest) is not None
    assert sum(file.stat().st_size for file in folder.iterdir()) < 50e6
    assert manifest.licence in read_card(folder)
    assert (folder / EXPERIMENTS_NAME).read_text().startswith("# What was tried")


@pytest.mark.parametrize("name", ["open", "research", "portable"])
def test_figures_and_thresholds_are_those_of_the_predictions_beside_it(name):
    folder = SHIPPED_BUNDLES / name
    manifest, predictions = read_manifest(folder), read_predictions(folder / PREDICTIONS_NAME)
    nested, calibration = read_nested(predictions), calibrate(predictions.logits, predictions.labels)
    again = {
        "figures": (figures := measure(nested)),
        "operating_points": describe_points(calibration, figures),
        "plausible_from": calibration.plausible_from,
    }
    ours, theirs = (flat(of.model_dump(include=set(again))) for of in (manifest, manifest.model_copy(update=again)))
    assert ours == pytest.approx(theirs, rel=1e-6)  # another processor may round the last digit differently


@pytest.mark.parametrize("name", ["open", "research", "portable"])
def test_a_card_says_how_far_the_figures_move_from_one_network_to_another(name):
    predictions = read_predictions(SHIPPED_BUNDLES / name / PREDICTIONS_NAME)
    nested = read_nested(predictions)
    networks = [measure(nested.take(predictions.folds == fold)) for fold in range(3)]
    assert markdown_table(network_table(networks, POINTS)) in read_card(SHIPPED_BUNDLES / name)


@pytest.mark.parametrize("name", ["open", "research", "portable"])
def test_its_limits_are_those_that_its_command_gives(name):
    given = re.findall("--limit '(.+)'", (REPOSITORY / "CONTRIBUTING.md").read_text())
    assert read_manifest(SHIPPED_BUNDLES / name).limits == list_limits(given)


def flat(value: object, path: str = "") -> dict[str, float]:
    """Return every number of nested dictionaries and lists by its path; a name is part of one."""
    if isinstance(value, str):
        return {f"{path}: {value}": 0}
    if not isinstance(value, dict | list | tuple):
        return {path: value}
    parts = value.items() if isinstance(value, dict) else enumerate(value)
    return {leaf: number for key, part in parts for leaf, number in flat(part, f"{path}/{key}").items()}


def test_the_file_for_phones_is_small_enough_and_says_nearly_what_its_bundle_says():
    model, file = load_model(PORTABLE, torch.device("cpu")), PORTABLE / "portable.onnx"
    preprocessing = model.manifest.preprocessing
    pixels = np.stack([read_sample(sample, preprocessing) for sample in sorted(SAMPLES.glob("*.jpg"))])
    session = onnxruntime.InferenceSession(file)
    probabilities, _ = session.run(None, {"pixels": pixels})
    assert session.get_modelmeta().custom_metadata_map["digest"] == model.digest
    assert file.stat().st_size <= 6e6
    np.testing.assert_allclose(probabilities, model.read(pixels).probabilities, atol=0.02)


def read_sample(sample: Path, preprocessing: Preprocessing) -> np.ndarray:
    return squash(decode_photograph(sample.read_bytes(), DECODED_SIDE), preprocessing)
