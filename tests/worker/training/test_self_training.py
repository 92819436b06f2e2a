"""What a student gets besides labels: what its teacher was most confident of, and nothing that is held out."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from shared.domain import CLASSES
from shared.errors import InputUnusable
from tests.worker.training.data import TinyLesionNetwork, coloured_images, tiny_recipe
from worker.network import save_weights
from worker.training.cross_validation import cross_validate
from worker.training.dataset import LabelledImages, UnlabelledImages
from worker.training.self_training import add_pseudo_labelled, self_train, without_known


def ignore(done: int, total: int, loss: float) -> None:
    pass


def unlabelled(images: LabelledImages) -> UnlabelledImages:
    return UnlabelledImages(tuple(f"U{image_id}" for image_id in images.ids), images.pixels, images.digest)


def test_the_half_of_each_class_of_which_the_teacher_is_most_confident_is_kept():
    train, others = coloured_images(n=6, side=64), unlabelled(coloured_images(n=7, seed=1, side=64))
    first, last = [9, 0, 0], [0, 0, 9]
    logits = np.array([[1, 0, 0], first, last, [0, 0, 1], [2, 0, 0], [3, 0, 0], [0, 0, 8]], float)
    joined = add_pseudo_labelled(train, others, logits)
    assert joined.ids == (*train.ids, "UI1", "UI5", "UI2", "UI6")  # two of four melanomas, two of three nevi
    assert joined.labels.tolist() == [*train.labels.tolist(), 0, 0, 2, 2]
    assert torch.equal(joined.pixels[6:], others.pixels[[1, 5, 2, 6]])
    assert joined.groups == joined.ids
    assert len({train.digest, joined.digest, add_pseudo_labelled(train, others, -logits).digest}) == 3


def test_confidence_is_a_probability_not_a_logit():
    train, others = coloured_images(n=6, side=64), unlabelled(coloured_images(n=2, seed=1, side=64))
    joined = add_pseudo_labelled(train, others, np.array([[900.0, 899.0, 0.0], [5.0, 0.0, 0.0]]))
    assert joined.ids[6:] == ("UI1",)


def test_labelled_images_and_near_duplicates_of_them_are_left_out():
    images, others = coloured_images(n=6), unlabelled(coloured_images(n=4, seed=1))
    pixels = others.pixels.clone()
    pixels[2] = (images.pixels[5].float() * 0.8).byte()
    others = replace(others, ids=("a", "I3", "b", "c"), pixels=pixels)
    assert without_known(others, images).ids == ("a", "c")
    with pytest.raises(InputUnusable, match="Every unlabelled image"):
        without_known(unlabelled(images), images)


def test_the_teacher_learns_from_the_labels_and_the_student_anew_from_both():
    train, others = coloured_images(n=6, side=64), unlabelled(coloured_images(n=6, seed=1, side=64))
    lessons = []

    def learn(images: LabelledImages, folder: Path):
        lessons.append((images.ids, folder))
        return lambda seen: np.eye(3)[np.arange(len(seen)) % 3] * len(lessons)

    read = self_train(learn, train, others, Path("fold"))
    assert lessons[0] == (train.ids, Path("fold/teacher"))
    assert lessons[1] == ((*train.ids, "UI0", "UI1", "UI2"), Path("fold"))
    assert read(others).max() == 2


def test_no_folds_teacher_has_seen_what_the_fold_holds_out(monkeypatch, tmp_path):
    monkeypatch.setattr("worker.training.run.LesionNetwork", TinyLesionNetwork)
    save_weights(TinyLesionNetwork(), tmp_path / "start", CLASSES)
    images, recipe = coloured_images(n=27), tiny_recipe(epochs=1)
    others = unlabelled(coloured_images(n=12, seed=1))
    run = (recipe, tmp_path / "start")
    control = cross_validate(*run, tmp_path / "control", images, 3, ignore)
    student = cross_validate(*run, tmp_path / "student", images, 3, ignore, unlabelled=others)
    assert np.array_equal(student.folds, control.folds)
    assert not np.array_equal(student.logits, control.logits)
    for fold in range(3):
        without, taught = (tmp_path / name / f"fold-{fold + 1}" for name in ("control", "student"))
        seen = images.subset(np.flatnonzero(control.folds != fold))
        assert json.loads((taught / "teacher" / "run.json").read_text())["data_sha256"] == seen.digest
        alone, teacher = (load_file(place / "weights.safetensors") for place in (without, taught / "teacher"))
        assert all(torch.equal(alone[key], teacher[key]) for key in alone)
        assert json.loads((taught / "run.json").read_text())["n_images"] > 18


def test_files_of_predictions_do_not_teach_where_images_have_no_labels(tmp_path):
    images = coloured_images(n=27)
    with pytest.raises(InputUnusable, match="not with unlabelled"):
        cross_validate(
            tiny_recipe(),
            tmp_path,
            tmp_path,
            images,
            3,
            ignore,
            teacher_predictions=(None,),
            unlabelled=unlabelled(images),
        )


def test_cleaning_changes_what_is_learnt_and_read_and_not_the_folds(monkeypatch, tmp_path):
    monkeypatch.setattr("worker.training.run.LesionNetwork", TinyLesionNetwork)
    save_weights(TinyLesionNetwork(), tmp_path / "start", CLASSES)
    images = coloured_images(n=27)
    monkeypatch.setattr("worker.frame.clean_frame", np.zeros_like)  # all look the same
    as_it_is, cleaned = (
        cross_validate(tiny_recipe(epochs=1, cleaned=so), tmp_path / "start", tmp_path / f"{so}", images, 3, ignore)
        for so in (False, True)
    )
    assert np.array_equal(cleaned.folds, as_it_is.folds)
    for fold in range(3):
        assert (cleaned.logits[cleaned.folds == fold] == cleaned.logits[cleaned.folds == fold][0]).all()
        learnt = [load_file(tmp_path / f"{so}" / f"fold-{fold + 1}" / "weights.safetensors") for so in (False, True)]
        assert not torch.equal(*(weights["classifier.weight"] for weights in learnt))
