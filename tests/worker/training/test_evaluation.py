"""`dermqueue evaluate`: the figures of a bundle, of a cross-validation, and of one against another."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from deploy.cli import main
from shared.domain import CLASSES
from tests.worker.networks import tiny_model
from tests.worker.training.bundles import write_random_bundle
from tests.worker.training.data import ISIC_2017, write_data, write_mask
from tests.worker.training.readings import made_up_predictions
from worker.training.dataset import read_images
from worker.training.disturbances import DISTURBANCES
from worker.training.evaluation import evaluate, read_cross_validation, read_with_bundle
from worker.training.predictions import Predictions, write_predictions

ROWS = ("A,1,0", "B,0,1", "C,0,0", "D,1,0", "E,0,1", "F,0,0", "G,0,0", "H,0,0")


def run(*arguments):
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments)], catch_exceptions=False)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> tuple[Path, Path]:
    return write_data(tmp_path_factory.mktemp("data"), ROWS)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return write_random_bundle(tmp_path_factory.mktemp("bundles") / "random")


def write_cv(path: Path, **changes) -> Path:
    write_predictions(made_up_predictions(**changes), path)
    return path


def test_a_bundle_is_measured_and_reported_with_pictures(data, bundle, tmp_path):
    metadata = tmp_path / "people.csv"
    metadata.write_text("image_id,age,sex\nA,50,male\n")
    done = run("--bundle", bundle, "--data", *data, "--metadata", metadata, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    assert "auc melanoma" in done.output
    assert "sex: male" in done.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["n_by_class"] == {"melanoma": 2, "seborrheic_keratosis": 2, "nevus": 4}
    assert np.sum(report["confusion"], axis=1).tolist() == [2, 2, 4]
    assert report["figures"]["sensitivity_screening"]["n"] == 2
    page = (tmp_path / "report" / "report.md").read_text()
    assert "tiny 1" in page
    assert "resamples, within each class, of images or, where the data name them, of lesions or patients" in page
    for name in ("roc.png", "calibration.png", "confusion.png"):
        assert f"]({name})" in page
        with Image.open(tmp_path / "report" / name) as picture:
            assert picture.getextrema()[0][0] < 255  # something was drawn


def test_disturbances_and_masks_have_their_tables_and_their_picture(data, bundle, tmp_path):
    (tmp_path / "masks").mkdir()
    for row in ROWS:
        write_mask(tmp_path / "masks" / f"{row[0]}_segmentation.png", slice(20, 44), slice(20, 44))
    asked = ("--disturb", "--masks", tmp_path / "masks")
    done = run("--bundle", bundle, "--data", *data, *asked, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert [found["disturbance"] for found in report["robustness"]] == list(DISTURBANCES)
    assert [found["diagnosis"] for found in report["attention"]] == list(CLASSES)
    assert report["off_lesion"]["n"] == len(ROWS)
    page = (tmp_path / "report" / "report.md").read_text()
    assert "](robustness.png)" in page
    assert all(f"| {title} |" in page for title in ("decisions changed", "energy inside", "ruler", "of these rightly"))
    with Image.open(tmp_path / "report" / "robustness.png") as picture:
        assert picture.getextrema()[0][0] < 255


def test_a_missing_mask_is_reported_before_any_image_is_read(data, bundle, tmp_path):
    write_mask(tmp_path / "A.png", slice(20, 44), slice(20, 44))
    (unread := tmp_path / "images").mkdir()
    done = run("--bundle", bundle, "--data", unread, data[1], "--masks", tmp_path)
    assert done.exit_code == 1
    assert "has no mask for 7 images, such as B" in done.output


@pytest.mark.parametrize("rows", [("A,0,0", "B,0,1"), ("A,1,0",)], ids=["no melanoma", "nothing else"])
def test_data_on_which_no_disturbance_can_be_measured_are_refused_before_any_image_is_read(bundle, tmp_path, rows):
    (unread := tmp_path / "images").mkdir()
    (tmp_path / "labels.csv").write_text("\n".join((ISIC_2017, *rows)) + "\n")
    done = run("--bundle", bundle, "--data", unread, tmp_path / "labels.csv", "--disturb")
    assert done.exit_code == 1
    assert "takes both melanomas and other lesions" in done.output


def test_two_bundles_of_the_stacks_folder_are_compared_by_their_names(data, bundle, tmp_path):
    (tmp_path / "models").mkdir()
    for name in ("new", "old"):
        (tmp_path / "models" / name).symlink_to(bundle)
    done = run("--bundle", "new", "--against", "old", "--data", *data, "--data-dir", tmp_path)
    assert done.exit_code == 0, done.output


def test_a_bundle_says_of_images_what_a_worker_would_say(data):
    model = tiny_model()
    subject = read_with_bundle(model, [data], on_progress=lambda *step: None)
    pixels = read_images([data], model.manifest.preprocessing).pixels.numpy()
    np.testing.assert_allclose(subject.readings.probabilities, model.read(pixels).probabilities, atol=1e-6)
    melanoma = subject.readings.probabilities[:, 0]
    np.testing.assert_array_equal(subject.readings.referred["screening"], melanoma >= 0.2)


def test_every_step_of_reading_is_reported(data):
    steps = []
    read_with_bundle(tiny_model(), [data], on_progress=lambda *step: steps.append(step))
    assert {what for what, _, _ in steps} == {"decoding", "analysing"}
    assert steps[-1] == ("analysing", 8, 8)


def test_other_diagnoses_are_left_out_and_a_missing_class_lacks_only_its_own_figures(tmp_path):
    rows = ("A,L1,mel", "B,L2,nv", "C,L3,bcc", "D,L4,nv", "E,L5,bcc")
    source = write_data(tmp_path, rows, header="image_id,lesion_id,dx")
    report = evaluate(read_with_bundle(tiny_model(), [source], on_progress=lambda *step: None), {}, None)
    assert (report.n, report.left_out) == (3, {"basal_cell_carcinoma": 2})
    assert report.n_by_class == {"melanoma": 1, "seborrheic_keratosis": 0, "nevus": 2}
    assert "auc_melanoma" in report.figures
    assert not {"auc_seborrheic_keratosis", "auc_mean"} & report.figures.keys()


def test_images_without_any_diagnosis_that_a_bundle_knows_are_refused(tmp_path):
    images, labels = write_data(tmp_path, ("A,L1,bcc",), header="image_id,lesion_id,dx")
    done = run("--bundle", write_random_bundle(tmp_path / "bundle"), "--data", images, labels)
    assert done.exit_code == 1
    assert f"No image has one of the diagnoses {', '.join(CLASSES)}" in done.output


def test_a_cross_validation_is_measured_by_its_predictions_and_against_another(tmp_path):
    new, old = write_cv(tmp_path / "new.csv", skill=2.5), write_cv(tmp_path / "old.csv", skill=0.5, seed=1)
    done = run("--predictions", new, "--against", old, "--out", tmp_path / "report")
    assert done.exit_code == 0, done.output
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["comparison"]["auc"]["melanoma"]["p"] < 0.001
    assert report["comparison"]["auc_mean"]["low"] > 0
    assert report["against"] == str(old)
    assert "5 folds" in report["images"]
    assert report["figures"]["coverage"]["value"] == pytest.approx(0.9, abs=0.05)
    assert "plausible diagnoses" in done.output


def test_a_cross_validations_patients_count_once_each(tmp_path):
    images = made_up_predictions(600)
    by_patient = replace(images, groups=tuple(f"patient-{i // 6}" for i in range(600)))
    write_predictions(images, tmp_path / "images.csv")
    write_predictions(by_patient, tmp_path / "patients.csv")
    alone, together = (
        evaluate(read_cross_validation(tmp_path / name), {}, None).figures["accuracy"]
        for name in ("images.csv", "patients.csv")
    )
    assert (alone.value, alone.n) == (together.value, together.n)
    assert together.high - together.low > 1.5 * (alone.high - alone.low)  # 100 patients: an exact interval


def test_an_overconfident_cross_validation_is_calibrated_before_it_is_measured(tmp_path):
    honest = made_up_predictions(2000)
    boasting = Predictions(honest.ids, honest.labels, honest.logits * 10, honest.folds)
    write_predictions(honest, tmp_path / "honest.csv")
    write_predictions(boasting, tmp_path / "boasting.csv")
    errors = [
        evaluate(read_cross_validation(tmp_path / name), {}, None).figures["expected_calibration_error"].value
        for name in ("honest.csv", "boasting.csv")
    ]
    assert errors[0] == pytest.approx(errors[1], abs=0.002)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--bundle", "open"),
        ("--predictions", "{cv}", "--bundle", "open"),
        ("--predictions", "{cv}", "--against", "open"),
        ("--predictions", "{cv}", "--disturb"),
        ("--predictions", "{cv}", "--masks", "."),
    ],
)
def test_incomplete_and_contradictory_options_are_a_usage_error(tmp_path, arguments):
    cv = write_cv(tmp_path / "cv.csv", n=60)
    assert run(*(argument.format(cv=cv) for argument in arguments)).exit_code == 2
