"""Predictions that are not of a run's recipe and images make no bundle of it."""

import json
from pathlib import Path

import pytest

from shared.bundle import SHIPPED_BUNDLES
from shared.domain import CLASSES
from shared.errors import InputUnusable
from tests.worker.training.readings import made_up_predictions
from worker.training.predictions import PREDICTIONS_NAME, write_predictions
from worker.training.provenance import describe_teaching, read_matching
from worker.training.recipe import read_recipe
from worker.training.record import Run, read_run

PREDICTIONS = made_up_predictions(60)
IDS = PREDICTIONS.ids
OF_FIRST_NETWORK = tuple(i for i, fold in zip(IDS, PREDICTIONS.folds, strict=True) if fold != 0)


def write_run(folder: Path, ids: tuple[str, ...] = IDS, changes: tuple[str, ...] = (), **record) -> Run:
    folder.mkdir(parents=True)
    record = {
        "recipe": read_recipe("portable", changes).model_dump(),
        "classes": CLASSES,
        "data_sha256": "0" * 64,
        "n_images": len(ids),
        "image_ids": ids,
        "n_by_class": {},
        "starting_weights": "imagenet.safetensors",
        "n_teachers": 0,
    } | record
    (folder / "run.json").write_text(json.dumps(record))
    return read_run(folder / "run.json")


def write_cross_validation(folder: Path, *changes: str) -> Path:
    """Leave what `dermqueue cross-validate` leaves: predictions, and a fold's record beside them."""
    write_run(folder / "fold-1", OF_FIRST_NETWORK, changes)
    write_predictions(PREDICTIONS, folder / PREDICTIONS_NAME)
    return folder / PREDICTIONS_NAME


def refusal(predictions: Path, run: Run) -> str:
    with pytest.raises(InputUnusable) as refused:
        read_matching(predictions, run)
    assert refused.value.code == "predictions_unfit"
    return refused.value.detail


def test_a_cross_validation_of_the_same_recipe_without_its_teacher_is_taken(tmp_path):
    path = write_cross_validation(tmp_path / "cv", "loss.teacher_share=0")
    run = write_run(tmp_path / "run")
    assert len(read_matching(path, run)) == 60
    assert describe_teaching(path, run) == "without its teacher"


def test_a_cross_validation_with_teachers_of_its_own_is_of_the_whole_recipe(tmp_path):
    run = write_run(tmp_path / "run")
    assert describe_teaching(write_cross_validation(tmp_path / "cv"), run) == ""
    untaught = write_run(tmp_path / "untaught", changes=("loss.teacher_share=0",))
    assert describe_teaching(write_cross_validation(tmp_path / "other", "loss.teacher_share=0"), untaught) == ""


def test_a_cross_validation_whose_teachers_may_have_seen_what_is_held_out_says_so(tmp_path):
    path, run = write_cross_validation(tmp_path / "cv"), write_run(tmp_path / "run")
    record = tmp_path / "cv" / "fold-1" / "run.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"n_teachers": 1}))
    assert len(read_matching(path, run)) == 60
    assert describe_teaching(path, run) == "whose teachers may have seen it"


def test_a_cross_validation_from_other_weights_is_refused(tmp_path):
    path = write_cross_validation(tmp_path / "cv")
    run = write_run(tmp_path / "run", starting_weights="a run of 6 epochs, itself from imagenet.safetensors")
    assert "started from imagenet.safetensors, and the run from a run of 6 epochs" in refusal(path, run)


def test_predictions_of_other_networks_than_those_beside_them_are_refused(tmp_path):
    path = write_cross_validation(tmp_path / "cv")
    (tmp_path / "cv" / "fold-1" / "run.json").unlink()
    (tmp_path / "cv" / "fold-1").rmdir()
    write_run(tmp_path / "cv" / "fold-1", (*OF_FIRST_NETWORK, "unlabelled"))
    said, n = refusal(path, write_run(tmp_path / "run")), len(OF_FIRST_NETWORK)
    assert f"the first learnt from {n + 1} images, and {n} are of other folds" in said


def test_a_cross_validation_of_another_recipe_is_refused_with_what_differs(tmp_path):
    path = write_cross_validation(tmp_path / "cv", "epochs=3", "augmentation.hairs=24", "loss.teacher_share=0")
    said = refusal(path, write_run(tmp_path / "run"))
    assert said.endswith(
        "another recipe than the run's: augmentation.hairs = 24 instead of 0, epochs = 3 instead of 14."
    )


def test_a_cross_validation_that_continues_other_runs_is_refused(tmp_path):
    predictions, runs = write_cross_validation(tmp_path / "cv"), {}
    for name, changes in {"same": (), "longer": ("epochs=20",)}.items():
        runs[name] = write_run(tmp_path / name, earlier_recipes=[read_recipe("portable", changes).model_dump()])
    record = tmp_path / "cv" / "fold-1" / "run.json"
    continued = json.loads((tmp_path / "same" / "run.json").read_text())
    continued |= {"image_ids": OF_FIRST_NETWORK, "n_images": len(OF_FIRST_NETWORK)}
    assert len(read_matching(predictions, runs["longer"])) == 60  # what the folds continue is not recorded
    record.write_text(json.dumps(continued))
    assert len(read_matching(predictions, runs["same"])) == 60
    assert "that of a run which the run continues: epochs = 14 instead of 20" in refusal(predictions, runs["longer"])


def test_predictions_of_another_kind_of_bundle_are_refused(tmp_path):
    said = refusal(SHIPPED_BUNDLES / "open" / PREDICTIONS_NAME, write_run(tmp_path / "run"))
    assert "input_side = 224 instead of 192, network = resnet50-v1 instead of efficientnet-lite0" in said


def test_predictions_of_other_images_are_refused(tmp_path):
    path = write_cross_validation(tmp_path / "cv")
    fewer, others = write_run(tmp_path / "fewer", IDS[1:]), write_run(tmp_path / "others", (*IDS[1:], "other"))
    assert "is of 60 images, and the run learnt from 59" in refusal(path, fewer)
    assert "has 1 images that the run did not see, such as image-0" in refusal(path, others)


def test_with_a_record_that_lists_no_images_their_number_is_compared(tmp_path):
    path = write_cross_validation(tmp_path / "cv")
    assert len(read_matching(path, write_run(tmp_path / "run", image_ids=()))) == 60
    assert "the run learnt from 61" in refusal(path, write_run(tmp_path / "more", image_ids=(), n_images=61))
