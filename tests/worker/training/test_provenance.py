"""Predictions that are not of a run's recipe and images make no bundle of it."""

import json
from pathlib import Path

import pytest

from shared.bundle import SHIPPED_BUNDLES
from shared.domain import CLASSES
from shared.errors import InputUnusable
from tests.worker.training.readings import made_up_predictions
from worker.training.predictions import PREDICTIONS_NAME, write_predictions
from worker.training.provenance import lacks_teacher, read_matching
from worker.training.recipe import read_recipe
from worker.training.record import Run, read_run

IDS = made_up_predictions(60).ids


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
    write_run(folder / "fold-1", IDS[:40], changes)
    write_predictions(made_up_predictions(60), folder / PREDICTIONS_NAME)
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
    assert lacks_teacher(path, run)


def test_a_cross_validation_with_teachers_of_its_own_is_of_the_whole_recipe(tmp_path):
    run = write_run(tmp_path / "run")
    assert not lacks_teacher(write_cross_validation(tmp_path / "cv"), run)
    untaught = write_run(tmp_path / "untaught", changes=("loss.teacher_share=0",))
    assert not lacks_teacher(write_cross_validation(tmp_path / "other", "loss.teacher_share=0"), untaught)


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
    first = write_run(tmp_path / "first", earlier_recipes=[])
    record = tmp_path / "cv" / "fold-1" / "run.json"
    continued = json.loads((tmp_path / "same" / "run.json").read_text()) | {"image_ids": IDS[:40]}
    assert len(read_matching(predictions, runs["longer"])) == 60  # what the folds continue is not recorded
    record.write_text(json.dumps(continued))
    assert len(read_matching(predictions, runs["same"])) == 60
    assert "that of a run which the run continues: epochs = 14 instead of 20" in refusal(predictions, runs["longer"])
    assert "continue 1 earlier runs, and the run continues 0" in refusal(predictions, first)


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
