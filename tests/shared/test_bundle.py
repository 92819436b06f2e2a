"""A bundle is intact or it is refused, with a sentence that says what is wrong with it."""

import hashlib
import json
from pathlib import Path

import pytest

from shared.bundle import CARD_NAME, MANIFEST_NAME, WEIGHTS_NAME, find_bundle, read_manifest, verify_weights
from shared.domain import CLASSES
from shared.errors import ModelUnusable

WEIGHTS = bytes(range(256)) * 16
MANIFEST = {
    "name": "made-up",
    "version": "1.0",
    "architecture": "resnet50-v1",
    "labels": list(CLASSES),
    "preprocessing": {"input_side": 224, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]},
    "temperature": 1.5,
    "operating_points": [
        {"name": "sensitive", "threshold": 0.1, "sensitivity": 0.95, "specificity": 0.5},
        {"name": "balanced", "threshold": 0.4, "sensitivity": 0.8, "specificity": 0.8},
    ],
    "default_operating_point": "sensitive",
    "heatmap_scales": [1.0, 2.0, 3.0],
    "weights_sha256": hashlib.sha256(WEIGHTS).hexdigest(),
    "data_sha256": "0" * 64,
    "trained_on": "nothing",
    "licence": "none",
    "figures": {"auc": {"value": 0.8, "low": 0.7, "high": 0.9, "n": 100}},
    "limits": ["It was made up."],
}


@pytest.fixture
def bundle(tmp_path) -> Path:
    (tmp_path / WEIGHTS_NAME).write_bytes(WEIGHTS)
    (tmp_path / CARD_NAME).write_text("# Made up")
    write_manifest(tmp_path)
    return tmp_path


def write_manifest(folder: Path, **changes) -> None:
    (folder / MANIFEST_NAME).write_text(json.dumps(MANIFEST | changes))


def refusal(call, *arguments) -> ModelUnusable:
    with pytest.raises(ModelUnusable) as caught:
        call(*arguments)
    return caught.value


def test_an_intact_bundle_is_read_and_its_weights_are_verified(bundle):
    manifest = read_manifest(bundle)
    verify_weights(bundle, manifest)
    assert manifest.labels == CLASSES
    assert manifest.preprocessing.describe() == "squash-256-jpeg-bilinear-224-imagenet"


def test_a_manifest_is_the_same_after_it_was_stored_in_sql(bundle):
    manifest = read_manifest(bundle)
    assert type(manifest).model_validate(json.loads(json.dumps(manifest.model_dump(mode="json")))) == manifest


def test_a_bundle_from_before_plausible_diagnoses_is_read_and_one_with_two_thresholds_is_damaged(bundle):
    assert read_manifest(bundle).plausible_from is None
    write_manifest(bundle, plausible_from=[0.1, 0.2, 0.6])
    assert read_manifest(bundle).plausible_from == (0.1, 0.2, 0.6)
    write_manifest(bundle, plausible_from=[0.1, 0.2])
    assert refusal(read_manifest, bundle).code == "bundle_damaged"


def test_a_folder_without_a_manifest_is_not_a_bundle(bundle):
    (bundle / MANIFEST_NAME).unlink()
    error = refusal(read_manifest, bundle)
    assert error.code == "bundle_missing"
    assert f"no readable {MANIFEST_NAME}" in error.detail
    assert "DERMQUEUE_MODEL too, is one of open, portable, research, a bundle's folder" in error.detail


@pytest.mark.parametrize("text", ["", "{", '{"name": "made-up"', "[]", "null"])
def test_a_manifest_that_is_not_a_json_object_is_damaged(bundle, text):
    (bundle / MANIFEST_NAME).write_text(text)
    error = refusal(read_manifest, bundle)
    assert error.code == "bundle_damaged"
    assert MANIFEST_NAME in error.detail


@pytest.mark.parametrize(
    ("changes", "where"),
    [
        ({"architecture": "resnet18"}, "architecture"),
        ({"temperature": 0}, "temperature"),
        ({"operating_points": [MANIFEST["operating_points"][0] | {"threshold": 1.5}]}, "operating_points.0.threshold"),
        ({"preprocessing": MANIFEST["preprocessing"] | {"resize": "crop"}}, "preprocessing.resize"),
        ({"preprocessing": MANIFEST["preprocessing"] | {"mean": [0.5]}}, "preprocessing.mean"),
        ({"preprocessing": MANIFEST["preprocessing"] | {"surprise": True}}, "preprocessing.surprise"),
        ({"heatmap_scales": [1.0, 2.0]}, "heatmap_scales"),
        ({"heatmap_scales": [1.0, 2.0, 0.0]}, "heatmap_scales.2"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_a_manifest_that_this_code_cannot_use_is_refused_by_the_name_of_the_field(bundle, changes, where):
    write_manifest(bundle, **changes)
    error = refusal(read_manifest, bundle)
    assert error.code == "bundle_damaged"
    assert f"{MANIFEST_NAME}: {where}" in error.detail


@pytest.mark.parametrize("labels", [["melanoma", "nevus", "seborrheic_keratosis"], ["melanoma"], []])
def test_labels_that_are_not_ours_in_our_order_are_refused(bundle, labels):
    write_manifest(bundle, labels=labels)
    assert refusal(read_manifest, bundle).code == "bundle_labels"


def test_a_bundle_whose_default_operating_point_it_does_not_have_is_refused(bundle):
    write_manifest(bundle, default_operating_point="absent")
    error = refusal(read_manifest, bundle)
    assert error.code == "operating_point_unknown"
    assert "'absent'; it has: sensitive, balanced" in error.detail


def test_an_operating_point_is_found_by_its_name_and_the_default_without_one(bundle):
    manifest = read_manifest(bundle)
    assert manifest.operating_point().threshold == 0.1
    assert manifest.operating_point("balanced").threshold == 0.4
    assert refusal(manifest.operating_point, "absent").code == "operating_point_unknown"


def test_one_damaged_byte_in_the_weights_is_found(bundle):
    manifest = read_manifest(bundle)
    damaged = bytearray(WEIGHTS)
    damaged[2000] ^= 1
    (bundle / WEIGHTS_NAME).write_bytes(damaged)
    error = refusal(verify_weights, bundle, manifest)
    assert error.code == "bundle_damaged"
    assert f"{WEIGHTS_NAME} does not match {MANIFEST_NAME}" in error.detail
    assert manifest.weights_sha256[:12] in error.detail
    assert "DERMQUEUE_MODEL" in error.detail


def test_a_bundle_without_weights_is_damaged(bundle):
    manifest = read_manifest(bundle)
    (bundle / WEIGHTS_NAME).unlink()
    error = refusal(verify_weights, bundle, manifest)
    assert (error.code, error.detail) == ("bundle_damaged", f"{bundle / WEIGHTS_NAME} cannot be read.")


def test_a_bundle_is_found_by_its_shipped_name_or_by_its_folder(bundle, monkeypatch):
    assert find_bundle(str(bundle)) == bundle
    monkeypatch.setattr("shared.bundle.SHIPPED_BUNDLES", bundle.parent)
    assert find_bundle(bundle.name) == bundle
