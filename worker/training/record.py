"""What a run leaves beside its weights: how they were made, and from which images."""

import json
from pathlib import Path

from shared.bundle import MANIFEST_NAME, read_manifest
from worker.training.predictions import PREDICTIONS_NAME, read_predictions

RECORD_NAME = "run.json"


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
