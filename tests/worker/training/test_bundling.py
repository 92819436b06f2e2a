"""`dermqueue bundle`: weights and predictions become a bundle that a worker loads, with a truthful card."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from deploy.cli import main
from shared.bundle import CARD_NAME, MANIFEST_NAME, MAX_WEIGHTS_BYTES, WEIGHTS_NAME, read_manifest
from shared.domain import CLASSES
from shared.errors import InputUnusable
from tests.worker.training.data import write_data
from tests.worker.training.readings import made_up_predictions
from worker.model import load_model
from worker.network import LesionNetwork, load_starting_weights
from worker.training import bundling
from worker.training.calibration import calibrate, read_nested
from worker.training.dataset import read_images
from worker.training.figures import measure
from worker.training.predictions import write_predictions
from worker.training.record import read_run

CPU = torch.device("cpu")
ROWS = ("A,1,0", "B,0,1", "C,0,0", "D,1,0", "E,0,1", "F,0,0")
RECIPE = {
    "network": "resnet50-v1",
    "input_side": 32,
    "cleaned": True,
    "least_light": 150,
    "normalisation": "image-mean",
    "epochs": 3,
    "batch_size": 4,
    "backbone_learning_rate": 1e-4,
    "head_learning_rate": 1e-3,
    "seed": 1,
}
LIMIT = "Taken with one clinic's telephones."
CC0, MIT = "ISIC-2017 Part 3 (CC0 1.0), ISIC Archive", "ResNet-50 v1 weights (MIT)"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A run, a cross-validation and data, as `dermqueue train` and `cross-validate` leave them."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "run").mkdir()
    torch.manual_seed(1)
    save_file(LesionNetwork().state_dict(), folder / "run" / "weights.safetensors")
    run = {
        "recipe": RECIPE,
        "data_sha256": "da7a" * 16,
        "n_images": 300,
        "n_by_class": {"melanoma": 60, "seborrheic_keratosis": 45, "nevus": 195},
        "starting_weights": "imagenet.safetensors",
        "n_teachers": 0,
        "classes": CLASSES,
        "more": "is ignored",
    }
    (folder / "run" / "run.json").write_text(json.dumps(run))
    write_predictions(made_up_predictions(300), folder / "predictions.csv")
    write_data(folder / "data", ROWS)
    (folder / "people.csv").write_text(
        "image_id,age,sex\n" + "".join(f"image-{i},50,{('female', 'male')[i % 2]}\n" for i in range(300))
    )
    (folder / "tried.md").write_text("| recipe | AUC |\n")
    return folder


def make(workplace: Path, out: Path, labels: Path | None = None, **changes):
    options = {
        "--weights": [workplace / "run" / "weights.safetensors"],
        "--predictions": [workplace / "predictions.csv"],
        "--data": [workplace / "data" / "images", labels or workplace / "data" / "labels.csv"],
        "--name": ["little"],
        "--version": ["7"],
        "--licence": ["MIT"],
        "--licence-of-data": [CC0],
        "--limit": [LIMIT],
        "--metadata": [workplace / "people.csv"],
        "--experiments": [workplace / "tried.md"],
        "--out": [out],
    } | {f"--{name}": [value] for name, value in changes.items()}
    arguments = [str(part) for name, values in options.items() if values != [None] for part in (name, *values)]
    return CliRunner().invoke(main, ["bundle", "--licence-of-data", MIT, *arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def bundle(workplace) -> Path:
    done = make(workplace, workplace / "bundle")
    assert done.exit_code == 0, done.output
    return workplace / "bundle"


def test_a_worker_loads_it_and_it_reads_as_the_recipe_trained_it(bundle):
    manifest = load_model(bundle, CPU).manifest
    assert (manifest.name, manifest.version) == ("little", "7")
    assert manifest.preprocessing.describe() == "squash-256-jpeg-bilinear-32-image-mean-cleaned-light-150"
    assert (manifest.data_sha256, manifest.trained_on) == (
        "da7a" * 16,
        "300 images (60 melanoma, 45 seborrheic keratosis, 195 nevus) from imagenet.safetensors",
    )


def test_its_weights_are_the_runs_in_half_precision_and_small_enough(workplace, bundle):
    theirs = load_file(workplace / "run" / "weights.safetensors")
    ours = load_file(bundle / "weights.safetensors")
    assert (bundle / "weights.safetensors").stat().st_size <= MAX_WEIGHTS_BYTES
    assert {value.dtype for value in ours.values() if value.is_floating_point()} == {torch.float16}
    for key in ("classifier.weight", "classifier.bias"):
        theirs[key] -= theirs[key].mean(dim=0)  # which heatmaps would show but no probability
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key].to(value.dtype), value, rtol=1e-3, atol=1e-6)


def test_another_training_starts_from_its_weights_with_the_same_classifier(bundle):
    network = LesionNetwork()
    load_starting_weights(network, bundle / "weights.safetensors", CLASSES)
    ours = load_file(bundle / "weights.safetensors")
    assert torch.equal(network.classifier.weight, ours["classifier.weight"].float())


def test_it_is_calibrated_on_all_predictions_and_measured_on_other_folds(bundle):
    manifest, predictions = read_manifest(bundle), made_up_predictions(300)
    chosen, nested = calibrate(predictions.logits, predictions.labels), measure(read_nested(predictions))
    assert manifest.temperature == pytest.approx(chosen.temperature)
    assert [point.threshold for point in manifest.operating_points] == pytest.approx([*chosen.thresholds.values()])
    assert manifest.plausible_from == pytest.approx(chosen.plausible_from)
    assert manifest.figures == nested
    assert manifest.operating_point("screening").sensitivity == nested["sensitivity_screening"].value
    assert manifest.operating_point("screening").sensitivity_interval[0] == nested["sensitivity_screening"].low
    assert manifest.measured_on.startswith("Cross-validated on 300 images")


def test_heatmaps_are_scaled_by_the_networks_own_activations(workplace, bundle):
    model = load_model(bundle, CPU)
    images = read_images(
        [(workplace / "data" / "images", workplace / "data" / "labels.csv")], model.manifest.preprocessing
    )
    peaks = model.read(images.pixels.numpy()).maps.max(axis=(2, 3))
    expected = [max(np.quantile(peaks[images.labels == i, i], 0.95), 1e-3) for i in range(3)]
    assert model.manifest.heatmap_scales == pytest.approx(expected, rel=1e-4)


def test_the_card_names_sources_licences_limits_groups_and_what_was_tried(bundle):
    card = (bundle / "card.md").read_text()
    assert "hairs and reflections are removed and frames darker than 150" in card
    for said in (CC0, MIT, "decides nothing alone", LIMIT, "| sex: female |", "epochs = 3"):
        assert said in card
    manifest = read_manifest(bundle)
    figure = manifest.figures["auc_melanoma"]
    assert f"| auc melanoma | {figure.value:.3f} | {figure.low:.3f} to {figure.high:.3f} | 300 |" in card
    assert "(experiments.md)" in card
    assert (bundle / "experiments.md").read_text() == "| recipe | AUC |\n"
    assert manifest.sources == (MIT, CC0)
    assert [limit for limit in manifest.limits if "dermoscop" in limit or "skin" in limit] == []  # nobody said so


def test_a_bundle_of_whose_data_nothing_is_known_is_unproven_elsewhere(workplace, tmp_path):
    assert make(workplace, tmp_path / "bundle", limit=None).exit_code == 0
    unproven = "On skin, with cameras and for diagnoses unlike those of its data, it is unproven."
    assert unproven in read_manifest(tmp_path / "bundle").limits
    assert f"- {unproven}\n" in (tmp_path / "bundle" / "card.md").read_text()


def test_a_network_taught_by_a_bundle_says_so_and_that_its_figures_are_without_a_teacher(workplace, tmp_path):
    run = json.loads((workplace / "run" / "run.json").read_text())
    run["recipe"] |= {"loss": {"teacher_share": 0.8}}
    (tmp_path / "run.json").write_text(json.dumps(run | {"tutor": "the bundle open 1"}))
    done = make(workplace, tmp_path / "bundle", run=tmp_path / "run.json")
    assert done.exit_code == 0, done.output
    manifest = read_manifest(tmp_path / "bundle")
    assert manifest.trained_on.endswith(", taught by the bundle open 1")
    assert "of the same recipe, without its teacher, that had not seen it" in manifest.measured_on


def test_the_card_shows_the_recipes_of_the_runs_that_a_run_continues(workplace, tmp_path):
    run = json.loads((workplace / "run" / "run.json").read_text())
    (tmp_path / "run.json").write_text(
        json.dumps(run | {"earlier_recipes": [run["recipe"] | {"epochs": 20, "loss": {"mixup_alpha": 0.2}}]})
    )
    done = make(workplace, tmp_path / "bundle", run=tmp_path / "run.json")
    assert done.exit_code == 0, done.output
    told = (tmp_path / "bundle" / "card.md").read_text().partition("## How it was trained")[2]
    _, first, _, second, _ = told.split("```")
    assert "by 2 recipes one after the other" in told
    assert "epochs = 20" in first.splitlines()
    assert second.split("\n")[1:-1] == [f"epochs = {run['recipe']['epochs']}", "loss.mixup_alpha = 0"]


def test_it_is_made_on_the_device_that_is_set(workplace, tmp_path, monkeypatch):
    monkeypatch.setenv("DERMQUEUE_DEVICE", "none")
    assert "DERMQUEUE_DEVICE: input should be" in make(workplace, tmp_path / "bundle").output


def test_every_user_of_the_machine_may_read_it(bundle):
    assert {file.stat().st_mode & 0o777 for file in bundle.iterdir()} == {0o644}
    assert bundle.stat().st_mode & 0o777 == 0o755


def test_predictions_of_one_fold_are_refused(workplace, tmp_path):
    write_predictions(made_up_predictions(300, folds=1), tmp_path / "one.csv")
    done = make(workplace, tmp_path / "bundle", predictions=tmp_path / "one.csv")
    assert done.exit_code == 1
    assert "predictions_one_fold" in done.output


def test_predictions_of_other_images_than_the_runs_are_refused(workplace, tmp_path):
    write_predictions(made_up_predictions(60), tmp_path / "fewer.csv")
    done = make(workplace, tmp_path / "bundle", predictions=tmp_path / "fewer.csv")
    assert done.exit_code == 1
    assert "predictions_unfit" in done.output
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"recipe": {"epochs": 1}, "data_sha256": "", "n_images": 1}'])
def test_a_file_that_is_not_a_run_json_is_refused_by_its_name(workplace, tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    done = make(workplace, tmp_path / "bundle", run=tmp_path / "run.json")
    assert done.exit_code == 1
    assert "run_malformed" in done.output


@pytest.mark.parametrize("change", ["no safetensors", "infinite", "too large"])
def test_weights_that_cannot_be_shipped_are_refused(workplace, tmp_path, monkeypatch, change):
    weights = tmp_path / "weights.safetensors"
    save_file({"a": torch.full((4,), 1e6 if change == "infinite" else 1.0)}, weights)
    if change == "no safetensors":
        weights.write_bytes(b"nothing")
    if change == "too large":
        monkeypatch.setattr("worker.training.bundling.MAX_WEIGHTS_BYTES", 50)
    done = make(workplace, tmp_path / "bundle", weights=weights, run=workplace / "run" / "run.json")
    assert done.exit_code == 1
    assert "weights_unusable" in done.output
    assert not (tmp_path / "bundle" / "bundle.json").exists()


def test_a_bundle_that_cannot_be_made_leaves_the_one_that_was_there(workplace, tmp_path):
    out, labels = tmp_path / "bundle", tmp_path / "labels.csv"
    assert make(workplace, out).exit_code == 0
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    labels.write_text((workplace / "data" / "labels.csv").read_text().rstrip() + "\nmissing,1,0\n")
    done = make(workplace, out, labels, version="8")
    assert (done.exit_code, "no image missing" in done.output) == (1, True)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert [file.name for file in tmp_path.iterdir() if file.is_dir()] == ["bundle"]


def test_the_manifest_takes_its_place_last_so_that_no_digest_is_promised_too_early(tmp_path, monkeypatch):
    place, placed = Path.replace, []

    def note(made: Path, final: Path) -> Path:
        placed.append(final.name)
        return place(made, final)

    monkeypatch.setattr(Path, "replace", note)
    names = {MANIFEST_NAME, CARD_NAME, WEIGHTS_NAME}
    with bundling._made_anew(tmp_path / "bundle") as made:
        for name in names:
            (made / name).touch()
    assert (set(placed), placed[-1]) == (names, MANIFEST_NAME)


def test_a_run_with_other_classes_cannot_become_a_bundle(workplace, tmp_path):
    run = json.loads((workplace / "run" / "run.json").read_text()) | {"classes": sorted(CLASSES)}
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(InputUnusable, match="its network is for melanoma, nevus, seborrheic_keratosis"):
        read_run(tmp_path / "run.json")
