"""Made-up readings: what a network of a chosen skill says of imaginary lesions."""

import numpy as np

from worker.training.figures import MELANOMA, Readings
from worker.training.predictions import Predictions

SHARES = (0.2, 0.15, 0.65)


def made_up_predictions(n: int = 300, skill: float = 1.5, seed: int = 0, folds: int = 5) -> Predictions:
    """Return logits: noise with a standard deviation of 1, plus `skill` for the true class."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(range(3), np.diff(np.round(np.cumsum((0, *SHARES)) * n).astype(int)))
    logits = generator.normal(size=(n, 3)) + skill * np.eye(3)[labels]
    return Predictions(tuple(f"image-{i}" for i in range(n)), labels, logits, np.arange(n) % folds)


def made_up_readings(n: int = 300, skill: float = 1.5, seed: int = 0) -> Readings:
    """Return them as probabilities, in steps of a fiftieth so that some are equal; referred from 0.2."""
    predictions = made_up_predictions(n, skill, seed)
    exponentials = np.exp(predictions.logits)
    probabilities = np.round(exponentials / exponentials.sum(axis=1, keepdims=True) * 50) / 50
    referred = {"screening": probabilities[:, MELANOMA] >= 0.2}
    return Readings(np.array(predictions.ids), predictions.labels, probabilities, referred)
