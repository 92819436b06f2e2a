"""What a run leaves beside its weights: how they were made, and from which images."""

import json
from dataclasses import dataclass
from pathlib import Path

from shared.bundle import MANIFEST_NAME, read_manifest
from shared.domain import CLASSES
from shared.errors import InputUnusable
from worker.training.predictions import PREDICTIONS_NAME, read_predictions
from worker.training.recipe import Recipe
from worker.training.words import count_in_words

RECORD_NAME = "run.json"


@dataclass(frozen=True)
class Run:
    """What a training run left in its `run.json`.

    `image_ids`: what it and its starting weights learnt from; empty in records of earlier versions. `earlier`: the
    recipes by which its starting weights were trained, first to last; None where an earlier version did not record it.
    `n_teachers`: files of predictions that taught it.
    """

    recipe: Recipe
    earlier: tuple[Recipe, ...] | None
    data_sha256: str
    n_images: int
    image_ids: frozenset[str]
    trained_on: str
    starting_weights: str
    n_teachers: int


def read_run(path: Path) -> Run:
    """Read a run's `run.json`.

    Raises:
        InputUnusable: `run_malformed`.
    """
    try:
        run = json.loads(path.read_bytes())
        start, n_teachers = run["starting_weights"], run["n_teachers"]
        taught = f", taught by {n_teachers} files of predictions" if n_teachers else ""
        if teacher := run.get("tutor"):
            taught = f", taught by {teacher}"
        trained_on = f"{run['n_images']} images ({count_in_words(run['n_by_class'])}) from {start}{taught}"
        classes = tuple(run["classes"])
        earlier = run.get("earlier_recipes")
        if earlier is not None:
            earlier = tuple(map(Recipe.model_validate, earlier))
        ids, recipe = frozenset(run.get("image_ids", ())), Recipe.model_validate(run["recipe"])
        found = Run(recipe, earlier, run["data_sha256"], run["n_images"], ids, trained_on, start, n_teachers)
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputUnusable(
            "run_malformed", f"{path} is not the run.json that `dermqueue train` writes beside its weights."
        ) from error
    if classes != CLASSES:
        raise InputUnusable(
            "run_malformed", f"{path}: its network is for {', '.join(classes)}; a bundle's is for {', '.join(CLASSES)}."
        )
    return found


def read_record(folder: Path) -> dict:
    """Return the record of a finished run in this folder; an empty one for any other folder."""
    try:
        record = json.loads((folder / RECORD_NAME).read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def read_learnt(weights: Path) -> set[str]:
    """Return the ids of the images that weights are known to have learnt from, their own starting weights included.

    A run's record names them; a bundle has learnt from those that its cross-validation held out in turn.
    """
    learnt = set(read_record(weights.parent).get("image_ids", ()))
    predictions = weights.parent / PREDICTIONS_NAME
    if (weights.parent / MANIFEST_NAME).exists() and predictions.exists():
        learnt.update(read_predictions(predictions).ids)
    return learnt


def read_recipes(weights: Path) -> list[dict] | None:
    """Return the recipes by which a run's weights were trained, first to last; empty for any other weights.

    None: the run is of an earlier version, which did not record what it continued.
    """
    record = read_record(weights.parent)
    if not record:
        return []
    earlier = record.get("earlier_recipes")
    return None if earlier is None else [*earlier, record["recipe"]]


def describe_weights(weights: Path) -> str:
    """Return the file's name, or, where a bundle's manifest or a run's record lies beside it, what it comes from."""
    if (weights.parent / MANIFEST_NAME).exists():
        manifest = read_manifest(weights.parent)
        return f"the bundle {manifest.name} {manifest.version}, itself of {manifest.trained_on}"
    match read_record(weights.parent):
        case {"recipe": {"epochs": epochs}, "starting_weights": start}:
            return f"a run of {epochs} epochs, itself from {start}"
        case _:
            return weights.name
