"""Figures of a bundle on labelled images, each with a bootstrap interval."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from shared.bundle import Figure, Manifest
from shared.domain import CLASSES, OperatingPoint
from worker.model import choose_device, load_model
from worker.training.dataset import read_isic

_RESAMPLES = 1000
_CALIBRATION_BINS = 10
_BATCH = 32

Measure = Callable[[np.ndarray, np.ndarray], float]
"""(probabilities (n, classes), labels (n,)) → figure."""


def evaluate_bundle(folder: Path, images: Path, ground_truth: Path) -> dict[str, Figure]:
    """Run a bundle over labelled images as a worker would and return its figures by name."""
    model = load_model(folder, choose_device("auto"))
    labelled = read_isic(images, ground_truth, model.manifest.preprocessing.input_side)
    probabilities = np.concatenate([model.read(chunk.numpy()).probabilities for chunk in labelled.pixels.split(_BATCH)])
    return measure(probabilities, labelled.labels.numpy(), model.manifest)


def measure(probabilities: np.ndarray, labels: np.ndarray, manifest: Manifest) -> dict[str, Figure]:
    """Return every figure with its 95 % interval.

    Args:
        probabilities: (n, classes), rows sum to one.
        labels: (n,), indices into `CLASSES`.
    """
    return {name: _with_interval(figure, probabilities, labels) for name, figure in _measures(manifest).items()}


def _measures(manifest: Manifest) -> dict[str, Measure]:
    measures: dict[str, Measure] = {
        f"auc_{name}": lambda p, y, i=i: float(roc_auc_score(y == i, p[:, i])) for i, name in enumerate(CLASSES)
    }
    measures["accuracy"] = lambda p, y: float((p.argmax(axis=1) == y).mean())
    measures["expected_calibration_error"] = expected_calibration_error
    for point in manifest.operating_points:
        measures[f"sensitivity_{point.name}"] = lambda p, y, point=point: _rates(p, y, point)[0]
        measures[f"specificity_{point.name}"] = lambda p, y, point=point: _rates(p, y, point)[1]
    return measures


def expected_calibration_error(probabilities: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean distance of confidence from accuracy over ten equal bins (Guo et al. 2017, arXiv 1706.04599)."""
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * _CALIBRATION_BINS).astype(int), _CALIBRATION_BINS - 1)
    gaps = [(bins == b).mean() * abs(correct[bins == b].mean() - confidence[bins == b].mean()) for b in np.unique(bins)]
    return float(sum(gaps))


def _rates(probabilities: np.ndarray, labels: np.ndarray, point: OperatingPoint) -> tuple[float, float]:
    """Return sensitivity and specificity for melanoma at a threshold."""
    melanoma = labels == CLASSES.index("melanoma")
    referred = probabilities[:, CLASSES.index("melanoma")] >= point.threshold
    return float(referred[melanoma].mean()), float((~referred[~melanoma]).mean())


def _with_interval(figure: Measure, probabilities: np.ndarray, labels: np.ndarray) -> Figure:
    """Resample within each class, so that no resample lacks one (Efron's percentile interval)."""
    generator = np.random.default_rng(0)
    of_class = [np.flatnonzero(labels == i) for i in range(len(CLASSES))]
    values = []
    for _ in range(_RESAMPLES):
        chosen = np.concatenate([generator.choice(rows, len(rows)) for rows in of_class])
        values.append(figure(probabilities[chosen], labels[chosen]))
    low, high = np.quantile(values, (0.025, 0.975))
    return Figure(value=figure(probabilities, labels), low=low, high=high, n=len(labels))
