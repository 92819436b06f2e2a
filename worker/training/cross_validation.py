"""Cross-validation: every image is judged by a network that was trained without it and without its likes."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from scipy.special import softmax
from sklearn.metrics import roc_auc_score

from shared.domain import CLASSES
from shared.errors import ConfigurationInvalid
from worker.network import LesionNetwork
from worker.training.dataset import LabelledImages, shrink
from worker.training.fine_tune import OnStep, predict
from worker.training.folds import assign_folds
from worker.training.predictions import Predictions, write_predictions
from worker.training.recipe import Recipe
from worker.training.run import train_network

PREDICTIONS_NAME = "predictions.csv"


def cross_validate(
    recipe: Recipe,
    starting_weights: Path,
    folder: Path,
    images: LabelledImages,
    n_folds: int,
    on_step: OnStep,
    teachers: tuple[Predictions, ...] = (),
) -> Predictions:
    """Train one network per fold, in `fold-1` and so on, and write what each says of its fold to `predictions.csv`.

    Each image meets the averaged weights once, as it is. An interrupted call goes on where it was; `images` are of
    `TRAINING_SIDE`.

    Raises:
        ConfigurationInvalid: the recipe tells other classes apart, or a class is too small for so many folds.
    """
    if images.classes != CLASSES:
        raise ConfigurationInvalid("recipe_unfit", f"Cross-validation is for recipes that tell apart {CLASSES}.")
    folds = assign_folds(images, n_folds, recipe.seed)
    logits = np.zeros((len(images), len(CLASSES)))
    for fold in range(n_folds):
        aside = np.flatnonzero(folds == fold)
        train, val = images.subset(np.flatnonzero(folds != fold)), images.subset(aside)
        val = replace(val, pixels=shrink(val.pixels, recipe.input_side))
        report = partial(_report_within, fold, n_folds, on_step)
        network: LesionNetwork = train_network(
            recipe, starting_weights, folder / f"fold-{fold + 1}", train, report, val, teachers
        )
        logits[aside] = predict(network, val.pixels, recipe.preprocessing).numpy()
    predictions = Predictions(images.ids, images.labels.numpy(), logits, folds)
    write_predictions(predictions, folder / PREDICTIONS_NAME)
    return predictions


def challenge_figures(predictions: Predictions) -> dict[str, float]:
    """Return the AUCs that ISIC-2017 ranked by, and the share of right answers among the three classes."""
    labels, names = predictions.labels, ("melanoma", "seborrheic_keratosis")
    probabilities = softmax(predictions.logits, axis=1)
    aucs = [float(roc_auc_score(labels == at, probabilities[:, at])) for at in map(CLASSES.index, names)]
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    return {
        "AUC melanoma": aucs[0],
        "AUC seborrheic keratosis": aucs[1],
        "AUC mean": float(np.mean(aucs)),
        "accuracy": accuracy,
    }


def _report_within(fold: int, n_folds: int, on_step: OnStep, done: int, total: int, loss: float) -> None:
    """Tell of one fold's steps as of all folds'; these differ by a step or two."""
    on_step(fold * total + done, n_folds * total, loss)
