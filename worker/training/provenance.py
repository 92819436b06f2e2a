"""Whether a cross-validation's predictions are of the recipe and the images of a run, as far as their folders tell."""

from pathlib import Path

from shared.bundle import MANIFEST_NAME, read_manifest
from shared.errors import InputUnusable
from worker.training.cross_validation import fold_folder
from worker.training.predictions import Predictions, read_predictions
from worker.training.recipe import Recipe
from worker.training.record import RECORD_NAME, Run, read_run

_MAY_DIFFER = {"loss.teacher_share"}
"""A bundle that teaches has learnt from all images: a cross-validation has teachers of its own, or does without."""


def read_matching(path: Path, run: Run) -> Predictions:
    """Read the predictions from which a run's bundle is calibrated and measured.

    Raises:
        InputUnusable: `predictions_malformed`; `predictions_unfit`: they are of another recipe or of other images.
    """
    predictions = read_predictions(path)
    if other := _run_beside(path.parent):
        _refuse_other_recipe(path, other.recipe.flatten(), run.recipe)
        _refuse_other_start(path, other, run)
        _refuse_other_folds(path, other, predictions)
    else:
        _refuse_other_recipe(path, _told_by_bundle(path.parent), run.recipe)
    _refuse_other_images(path, {*predictions.ids}, run)
    return predictions


def describe_teaching(path: Path, run: Run) -> str:
    """Return how the networks of a cross-validation, as far as its folder tells, were taught otherwise than the run."""
    other = _run_beside(path.parent)
    if other and other.n_teachers:
        return "whose teachers may have seen it"
    if run.recipe.loss.teacher_share and not (other and other.recipe.loss.teacher_share):
        return "without its teacher"
    return ""


def _refuse_other_recipe(path: Path, theirs: dict[str, object], recipe: Recipe, of: str = "the run's") -> None:
    ours = recipe.flatten()
    others = {key: value for key, value in theirs.items() if value != ours[key]}
    if differing := others.keys() - _MAY_DIFFER:
        named = ", ".join(f"{key} = {others[key]} instead of {ours[key]}" for key in sorted(differing))
        raise InputUnusable("predictions_unfit", f"{path} is of networks of another recipe than {of}: {named}.")


def _refuse_other_start(path: Path, theirs: Run, ours: Run) -> None:
    for their_recipe, our_recipe in zip(theirs.earlier or (), ours.earlier or (), strict=False):
        _refuse_other_recipe(path, their_recipe.flatten(), our_recipe, "that of a run which the run continues")
    if theirs.starting_weights != ours.starting_weights:
        raise InputUnusable(
            "predictions_unfit",
            f"{path} is of networks that started from {theirs.starting_weights}, and the run from"
            f" {ours.starting_weights}.",
        )


def _refuse_other_folds(path: Path, first: Run, predictions: Predictions) -> None:
    learnt = int((predictions.folds != 0).sum())
    if first.n_images != learnt:
        raise InputUnusable(
            "predictions_unfit",
            f"{path} is not of the networks in the folders beside it, or these learnt from unlabelled images, too: the"
            f" first learnt from {first.n_images} images, and {learnt} are of other folds.",
        )


def _refuse_other_images(path: Path, ids: set[str], run: Run) -> None:
    if len(ids) != run.n_images:
        raise InputUnusable(
            "predictions_unfit", f"{path} is of {len(ids)} images, and the run learnt from {run.n_images}."
        )
    if run.image_ids and (unknown := sorted(ids - run.image_ids)):
        raise InputUnusable(
            "predictions_unfit", f"{path} has {len(unknown)} images that the run did not see, such as {unknown[0]}."
        )


def _run_beside(folder: Path) -> Run | None:
    """Return the record of a cross-validation's first network."""
    record = fold_folder(folder, 0) / RECORD_NAME
    return read_run(record) if record.exists() else None


def _told_by_bundle(folder: Path) -> dict[str, object]:
    """Return what a bundle's manifest, where there is one, tells of its recipe."""
    if not (folder / MANIFEST_NAME).exists():
        return {}
    manifest = read_manifest(folder)
    told = {"network": manifest.architecture, **dict(manifest.preprocessing)}
    return {key: value for key, value in told.items() if key in Recipe.model_fields}
