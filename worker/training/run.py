"""One run in one folder: from starting weights to trained ones, with a record of how they were made."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file

from shared.bundle import MANIFEST_NAME, WEIGHTS_NAME, read_manifest
from shared.errors import InputUnusable
from worker.model import Model, choose_commands_device
from worker.network import LesionNetwork, load_starting_weights, save_weights
from worker.training.dataset import LabelledImages
from worker.training.fine_tune import FineTuning, OnStep
from worker.training.predictions import PREDICTIONS_NAME, Predictions, mean_probabilities, read_predictions
from worker.training.recipe import Recipe

RECORD_NAME = "run.json"
_RECORDED_VERSIONS = ("dermqueue", "torch", "torchvision", "numpy", "pillow")


def train_network(
    recipe: Recipe,
    starting_weights: Path,
    folder: Path,
    train: LabelledImages,
    on_step: OnStep,
    val: LabelledImages | None = None,
    teacher_predictions: tuple[Predictions, ...] = (),
    teacher: Model | None = None,
) -> LesionNetwork:
    """Train to the end, resuming what the folder holds, and return the network with averaged weights.

    The folder gets `weights.safetensors` (float32), `run.json`, `history.csv`, `curves.png` and `tensorboard/`. A
    finished run is not repeated. `val` has the recipe's input side. `teacher_predictions` are averaged into fixed soft
    labels; `teacher` predicts during the training.

    Raises:
        InputUnusable: weights, teachers or folder do not fit the recipe and the data.
        ModelUnusable: the training diverged, or the manifest beside the weights is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    network = LesionNetwork(len(train.classes), recipe.network)
    load_starting_weights(network, starting_weights, train.classes)
    start, learnt = _describe_start(starting_weights), read_learnt(starting_weights).union(train.ids)
    _check_teachers(recipe, teacher_predictions, teacher)
    soft_labels = torch.from_numpy(mean_probabilities(teacher_predictions, train.ids)) if teacher_predictions else None
    tuning = FineTuning(recipe, network.to(choose_commands_device()), folder, train, val, soft_labels, teacher)
    if (folder / RECORD_NAME).exists():
        tuning.refuse_other(json.loads((folder / RECORD_NAME).read_text())["identity"])
        network.load_state_dict(load_file(folder / WEIGHTS_NAME))
        return network
    averaged = tuning.run(on_step)
    save_weights(averaged, folder / WEIGHTS_NAME, train.classes)
    _write_record(tuning, start, learnt, len(teacher_predictions))
    (folder / "checkpoint.pt").unlink()
    return averaged


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


def _check_teachers(recipe: Recipe, predictions: tuple[Predictions, ...], teacher: Model | None) -> None:
    if bool(predictions) + bool(teacher) != bool(recipe.loss.teacher_share):
        raise InputUnusable(
            "teacher_unfit",
            "A recipe whose loss.teacher_share is above 0 needs predictions or a bundle to learn from, one of the two;"
            " any other takes none.",
        )


def _describe_start(weights: Path) -> str:
    """Return the file's name, or, where a bundle's manifest or a run's record lies beside it, what it comes from."""
    if (weights.parent / MANIFEST_NAME).exists():
        manifest = read_manifest(weights.parent)
        return f"the bundle {manifest.name} {manifest.version}, itself of {manifest.trained_on}"
    match read_record(weights.parent):
        case {"recipe": {"epochs": epochs}, "starting_weights": start}:
            return f"a run of {epochs} epochs, itself from {start}"
        case _:
            return weights.name


def _write_record(tuning: FineTuning, start: str, learnt: set[str], n_teachers: int) -> None:
    train, history, teacher = tuning.train, tuning.history, tuning.teacher
    record = {
        "identity": tuning.identity,
        "recipe": tuning.recipe.model_dump(),
        "classes": train.classes,
        "data_sha256": train.digest,
        "n_images": len(train),
        "n_by_class": train.count(),
        "left_out": train.left_out,
        "image_ids": sorted(learnt),
        "starting_weights": start,
        "n_teachers": n_teachers,
        "tutor": f"{teacher.manifest.name} {teacher.manifest.version}" if teacher else None,
        "seconds": round(sum(epoch.seconds for epoch in history), 3),
        "last_epoch": vars(history[-1]),
        "device": str(tuning.device),
        "versions": {name: version(name) for name in _RECORDED_VERSIONS} | {"python": platform.python_version()},
    }
    partial = tuning.folder / f"{RECORD_NAME}.partial"
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(tuning.folder / RECORD_NAME)
