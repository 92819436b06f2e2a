"""Cross-validation: every image is judged by a network trained without it, its lesion, its patient or a duplicate."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from shared.bundle import MANIFEST_NAME, WEIGHTS_NAME, read_manifest
from shared.domain import CLASSES
from shared.errors import InputUnusable
from worker.network import LesionNetwork, predict
from worker.training.dataset import LabelledImages, UnlabelledImages, digest_rows, prepare
from worker.training.fine_tune import OnStep
from worker.training.folds import assign_folds
from worker.training.predictions import PREDICTIONS_NAME, Predictions, write_predictions
from worker.training.recipe import Recipe, SvmRecipe
from worker.training.record import read_learnt, read_record
from worker.training.run import train_network
from worker.training.self_training import Learn, Predict, self_train, without_known
from worker.training.svm import FeatureSvm, read_features
from worker.training.teacher import load_run_teacher


def cross_validate(
    recipe: Recipe | SvmRecipe,
    starting_weights: Path,
    folder: Path,
    images: LabelledImages,
    n_folds: int,
    on_step: OnStep,
    teacher_predictions: tuple[Predictions, ...] = (),
    unlabelled: UnlabelledImages | None = None,
    teacher_folds: Path | None = None,
) -> Predictions:
    """Train once per fold, in `fold-1` and so on, and write the predictions for held-out images to `predictions.csv`.

    The averaged weights read each held-out image once, unaugmented; images have `TRAINING_SIDE`. An interrupted call
    resumes where it stopped. With unlabelled images, each fold has its own teacher, trained on the same labels as the
    fold's network. If `starting_weights` is the folder of a finished cross-validation, each fold starts from its own
    network there; from `teacher_folds`, its own network teaches it.

    Raises:
        InputUnusable: the recipe is for other classes, a class is too small for so many folds, teachers are named that
            the recipe does not use, the weights have learnt from one of these images, or a network to start or learn
            from was trained on other images than its fold trains on.
    """
    _check(recipe, images, has_teachers=bool(teacher_predictions or teacher_folds), learns_unlabelled=bool(unlabelled))
    _refuse_learnt(starting_weights, images)
    folds = assign_folds(images, n_folds, recipe.seed)
    unlabelled = unlabelled and without_known(unlabelled, images)
    seen = [images, unlabelled] if unlabelled else [images]
    machine = None
    if isinstance(recipe, SvmRecipe):
        machine = FeatureSvm(recipe, read_features(recipe, starting_weights, seen, on_step))
    learnt = [np.flatnonzero(folds != fold) for fold in range(n_folds)]
    teachers = _find_folds(teacher_folds, images, learnt) if teacher_folds else [None] * n_folds
    starts = [starting_weights] * n_folds
    if starting_weights.is_dir():
        starts = [run / WEIGHTS_NAME for run in _find_folds(starting_weights, images, learnt)]
    logits = np.zeros((len(images), len(CLASSES)))
    for fold in range(n_folds):
        aside, place = np.flatnonzero(folds == fold), fold_folder(folder, fold)
        train, val = images.subset(learnt[fold]), images.subset(aside)
        report = partial(_report_within, fold, n_folds, on_step)
        learn: Learn = (
            machine.learn
            if machine
            else partial(_learn, recipe, starts[fold], report, val, teacher_predictions, teachers[fold])
        )
        read = self_train(learn, train, unlabelled, place) if unlabelled else learn(train, place)
        logits[aside] = read(val)
    groups = images.groups if images.groups != images.ids else None
    predictions = Predictions(images.ids, images.labels.numpy(), logits, folds, groups)
    folder.mkdir(parents=True, exist_ok=True)
    write_predictions(predictions, folder / PREDICTIONS_NAME)
    return predictions


def _check(recipe: Recipe | SvmRecipe, images: LabelledImages, *, has_teachers: bool, learns_unlabelled: bool) -> None:
    if images.classes != CLASSES:
        raise InputUnusable("recipe_unfit", f"Cross-validation is for recipes that tell apart {', '.join(CLASSES)}.")
    if has_teachers and (isinstance(recipe, SvmRecipe) or learns_unlabelled):
        raise InputUnusable("teacher_unfit", "Teachers are for networks alone, and not with unlabelled images.")


def fold_folder(folder: Path, fold: int) -> Path:
    """Return the folder of the network from which a fold, counted from 0, is held out."""
    return folder / f"fold-{fold + 1}"


def _refuse_learnt(weights: Path, images: LabelledImages) -> None:
    """Refuse weights of a run or a bundle that is known to have learnt from any of these images.

    Where no list of images lies beside the weights, only exactly the same data are recognised, by their digest.
    """
    if weights.is_dir():
        return
    digests = {read_record(weights.parent).get("data_sha256")}
    if (weights.parent / MANIFEST_NAME).exists():
        digests.add(read_manifest(weights.parent).data_sha256)
    learnt = images.ids if images.digest in digests else sorted(read_learnt(weights).intersection(images.ids))
    if learnt:
        raise InputUnusable(
            "weights_unusable",
            f"{weights} has learnt from {len(learnt)} of the {len(images)} images, such as {learnt[0]}: they would not"
            " be held out from it. Start from weights that have not seen them, or from a cross-validation's folder.",
        )


def _find_folds(folder: Path, images: LabelledImages, learnt: Sequence[np.ndarray]) -> list[Path]:
    """Return each fold's run in a cross-validation's folder; it learnt from exactly these rows of the images."""
    places = [fold_folder(folder, fold) for fold in range(len(learnt))]
    for place, rows in zip(places, learnt, strict=True):
        record, aside = read_record(place), {*images.ids} - {images.ids[row] for row in rows}
        is_of_fold = record.get("data_sha256") == digest_rows(images.digest, rows)
        if not is_of_fold or aside.intersection(record.get("image_ids", ())):
            raise InputUnusable(
                "weights_unusable",
                f"{place} does not hold a finished network that learnt from the images that this fold trains on alone:"
                " it, or what taught it, might have seen those that are held out. Name a cross-validation of the same"
                " data with as many folds.",
            )
    return places


def _learn(
    recipe: Recipe,
    starting_weights: Path,
    report: OnStep,
    val: LabelledImages,
    teacher_predictions: tuple[Predictions, ...],
    taught_by: Path | None,
    train: LabelledImages,
    folder: Path,
) -> Predict:
    judged = replace(val, pixels=prepare(val.pixels, recipe.preprocessing))
    teacher = load_run_teacher(taught_by) if taught_by else None
    network: LesionNetwork = train_network(
        recipe, starting_weights, folder, train, report, judged, teacher_predictions, teacher
    )
    return lambda seen: (
        predict(network, prepare(seen.pixels, recipe.preprocessing), recipe.preprocessing).double().numpy()
    )


def _report_within(fold: int, n_folds: int, on_step: OnStep, done: int, total: int, loss: float) -> None:
    """Report one fold's steps as a part of all folds', whose numbers of steps differ by one or two."""
    on_step(fold * total + done, n_folds * total, loss)
