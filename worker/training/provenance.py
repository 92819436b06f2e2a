"""Whether a cross-validation's predictions are of the recipe and the images of a run, as far as their folders tell."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

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
    predictions, ours = read_predictions(path), dict(_values(run.recipe))
    others = {key: value for key, value in _recipe_beside(path.parent).items() if value != ours[key]}
    if differing := others.keys() - _MAY_DIFFER:
        named = ", ".join(f"{key} = {others[key]} instead of {ours[key]}" for key in sorted(differing))
        raise InputUnusable("predictions_unfit", f"{path} is of networks of another recipe than the run's: {named}.")
    _refuse_other_images(path, {*predictions.ids}, run)
    return predictions


def lacks_teacher(path: Path, run: Run) -> bool:
    """Tell whether a run was taught, and its cross-validation, as far as its folder tells, was not."""
    return bool(run.recipe.loss.teacher_share) and not _recipe_beside(path.parent).get("loss.teacher_share")


def _refuse_other_images(path: Path, ids: set[str], run: Run) -> None:
    if len(ids) != run.n_images:
        raise InputUnusable(
            "predictions_unfit", f"{path} is of {len(ids)} images, and the run learnt from {run.n_images}."
        )
    if run.image_ids and (unknown := sorted(ids - run.image_ids)):
        raise InputUnusable(
            "predictions_unfit", f"{path} has {len(unknown)} images that the run did not see, such as {unknown[0]}."
        )


def _recipe_beside(folder: Path) -> dict[str, object]:
    """Return what the records of a cross-validation, or a bundle's manifest, tell of the recipe, by dotted names."""
    if (record := fold_folder(folder, 0) / RECORD_NAME).exists():
        return dict(_values(read_run(record).recipe))
    if (folder / MANIFEST_NAME).exists():
        manifest = read_manifest(folder)
        told = {"network": manifest.architecture, **dict(manifest.preprocessing)}
        return {key: value for key, value in told.items() if key in Recipe.model_fields}
    return {}


def _values(fields: BaseModel, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in fields:
        if isinstance(value, BaseModel):
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
