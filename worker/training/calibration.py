"""Calibration on a cross-validation's predictions: temperature, referral thresholds and plausible diagnoses."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_curve

from shared.bundle import Figure
from shared.domain import OperatingPoint
from shared.errors import InputUnusable
from worker.training.conformal import choose_plausible_from, find_all_plausible
from worker.training.figures import MELANOMA, Readings
from worker.training.predictions import Predictions

POINTS = ("screening", "balanced")
_SCREENING_SENSITIVITY = 0.95
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True)
class Calibration:
    """A temperature; by operating point, the threshold on the melanoma probability; by class, the probability from
    which it is plausible.
    """

    temperature: float
    thresholds: dict[str, float]
    plausible_from: tuple[float, ...]


def calibrate(logits: np.ndarray, labels: np.ndarray) -> Calibration:
    """Choose temperature, two operating points and plausibility thresholds on held-out logits (n, classes).

    `screening` finds at least 95% of the melanomas; `balanced` has the greatest sum of sensitivity and specificity
    (Youden 1950).
    """
    temperature = fit_temperature(logits, labels)
    probabilities = softmax(logits / temperature, axis=1)
    thresholds = choose_thresholds(probabilities[:, MELANOMA], labels == MELANOMA)
    return Calibration(temperature, thresholds, choose_plausible_from(probabilities, labels))


def read_nested(predictions: Predictions) -> Readings:
    """Return what each fold's network said of the fold's images, calibrated on the other folds.

    Figures of these readings are not optimistic: no image contributed to the weights that it was read with, nor was it
    among those from which temperature and thresholds were chosen. The plausible diagnoses are those at `screening`.

    Raises:
        InputUnusable: `predictions_one_fold`: without a second fold there is nothing to calibrate on.
    """
    ids, logits, labels = np.array(predictions.ids), predictions.logits, predictions.labels
    probabilities, referred = np.empty_like(logits), {name: np.empty(len(ids), bool) for name in POINTS}
    plausible = np.empty(logits.shape, bool)
    for fold in np.unique(predictions.folds):
        inside = predictions.folds == fold
        others = ~np.isin(ids, ids[inside])
        if not 0 < (labels[others] == MELANOMA).sum() < others.sum():
            raise InputUnusable(
                "predictions_one_fold",
                f"Without fold {fold}, no melanomas or no other lesions are left to calibrate on:"
                " the predictions must come from `dermqueue cross-validate`.",
            )
        calibration = calibrate(logits[others], labels[others])
        probabilities[inside] = softmax(logits[inside] / calibration.temperature, axis=1)
        for name, threshold in calibration.thresholds.items():
            referred[name][inside] = probabilities[inside, MELANOMA] >= threshold
        plausible[inside] = find_all_plausible(
            probabilities[inside], calibration.plausible_from, referred[POINTS[0]][inside]
        )
    clusters = np.array(predictions.groups) if predictions.groups else None
    return Readings(ids, labels, probabilities, referred, plausible, clusters)


def describe_points(calibration: Calibration, figures: dict[str, Figure]) -> tuple[OperatingPoint, ...]:
    """Return the points with their thresholds, and the figures of thresholds that were chosen on other folds."""

    def point(name: str) -> OperatingPoint:
        sensitivity, specificity = figures[f"sensitivity_{name}"], figures[f"specificity_{name}"]
        return OperatingPoint(
            name=name,
            threshold=calibration.thresholds[name],
            sensitivity=sensitivity.value,
            sensitivity_interval=(sensitivity.low, sensitivity.high),
            specificity=specificity.value,
            specificity_interval=(specificity.low, specificity.high),
        )

    return tuple(point(name) for name in POINTS)


def fit_temperature(logits: np.ndarray, labels: np.ndarray) -> float:
    """Return the temperature with the lowest negative log-likelihood (Guo et al. 2017, arXiv 1706.04599)."""
    rows = np.arange(len(labels))
    bounds = tuple(np.log(_TEMPERATURES))

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[rows, labels].mean()

    return float(np.exp(minimize_scalar(loss, bounds=bounds, method="bounded").x))


def choose_thresholds(melanoma_probabilities: np.ndarray, melanoma: np.ndarray) -> dict[str, float]:
    """Return the thresholds of `screening` and `balanced`.

    Each lies midway to the next lower probability, so that a rounding error cannot flip a decision.
    """
    curve = roc_curve(melanoma, melanoma_probabilities, drop_intermediate=False)
    false_positive, true_positive, thresholds = (values[1:] for values in curve)  # the first point refers nobody
    midway = (thresholds + np.append(thresholds[1:], 0.0)) / 2
    return {
        "screening": float(midway[np.argmax(true_positive >= _SCREENING_SENSITIVITY)]),
        "balanced": float(midway[np.argmax(true_positive - false_positive)]),
    }
