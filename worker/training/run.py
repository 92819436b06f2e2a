"""One run in one folder: from starting weights to trained ones, with a record of how they were made."""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import torch
from safetensors.torch import load_file

from shared.bundle import WEIGHTS_NAME
from shared.errors import InputUnusable
from worker.model import choose_commands_device
from worker.network import LesionNetwork, load_starting_weights, save_weights
from worker.training.dataset import LabelledImages
from worker.training.fine_tune import CHECKPOINT_NAME, FineTuning, OnStep
from worker.training.predictions import Predictions, mean_probabilities
from worker.training.recipe import Recipe
from worker.training.record import RECORD_NAME, describe_weights, read_learnt, read_recipes
from worker.training.teacher import Teacher

_RECORDED_VERSIONS = ("dermqueue", "torch", "torchvision", "numpy", "pillow")


def train_network(
    recipe: Recipe,
    starting_weights: Path,
    folder: Path,
    train: LabelledImages,
    on_step: OnStep,
    val: LabelledImages | None = None,
    teacher_predictions: tuple[Predictions, ...] = (),
    teacher: Teacher | None = None,
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
    start, earlier = describe_weights(starting_weights), read_recipes(starting_weights)
    learnt = read_learnt(starting_weights).union(train.ids)
    learnt.update(*(predictions.ids for predictions in teacher_predictions))
    if teacher:
        learnt |= teacher.learnt
    _check_teachers(recipe, teacher_predictions, teacher)
    soft_labels = torch.from_numpy(mean_probabilities(teacher_predictions, train.ids)) if teacher_predictions else None
    tuning = FineTuning(recipe, network.to(choose_commands_device()), folder, train, val, soft_labels, teacher)
    if (folder / RECORD_NAME).exists():
        tuning.refuse_other(json.loads((folder / RECORD_NAME).read_text())["identity"])
        network.load_state_dict(load_file(folder / WEIGHTS_NAME))
        (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
        return network
    averaged = tuning.run(on_step)
    save_weights(averaged, folder / WEIGHTS_NAME, train.classes)
    _write_record(tuning, start, earlier, learnt, len(teacher_predictions))
    (folder / CHECKPOINT_NAME).unlink(missing_ok=True)
    return averaged


def _check_teachers(recipe: Recipe, predictions: tuple[Predictions, ...], teacher: Teacher | None) -> None:
    if bool(predictions) + bool(teacher) != bool(recipe.loss.teacher_share):
        raise InputUnusable(
            "teacher_unfit",
            "A recipe whose loss.teacher_share is above 0 needs predictions or networks to learn from, one of the two;"
            " any other takes none.",
        )


def _write_record(
    tuning: FineTuning, start: str, earlier: list[dict] | None, learnt: set[str], n_teachers: int
) -> None:
    train, history = tuning.train, tuning.history
    record = {
        "identity": tuning.identity,
        "recipe": tuning.recipe.model_dump(),
        "earlier_recipes": earlier,
        "classes": train.classes,
        "data_sha256": train.digest,
        "n_images": len(train),
        "n_by_class": train.count(),
        "left_out": train.left_out,
        "image_ids": sorted(learnt),
        "starting_weights": start,
        "n_teachers": n_teachers,
        "tutor": tuning.teacher.name if tuning.teacher else None,
        "seconds": round(sum(epoch.seconds for epoch in history), 3),
        "last_epoch": vars(history[-1]),
        "device": str(tuning.device),
        "versions": {name: version(name) for name in _RECORDED_VERSIONS} | {"python": platform.python_version()},
    }
    partial = tuning.folder / f"{RECORD_NAME}.partial"
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(tuning.folder / RECORD_NAME)
