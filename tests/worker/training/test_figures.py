"""Calibration, thresholds and figures against values worked out by hand."""

import numpy as np
import pytest
import torch

from shared.domain import CLASSES, OperatingPoint
from tests.worker.networks import tiny_manifest
from worker.training.evaluation import expected_calibration_error, measure
from worker.training.export import choose_operating_points, fit_temperature

MELANOMA = np.array([0.9, 0.8, 0.3, 0.7, 0.2, 0.1, 0.05, 0.02])
PROBABILITIES = np.stack([MELANOMA, (1 - MELANOMA) * 0.1, (1 - MELANOMA) * 0.9], axis=1)
LABELS = np.array([0, 0, 0, 1, 2, 2, 2, 2])


def test_screening_catches_every_melanoma_with_a_threshold_midway_to_the_next_lower_probability():
    screening, balanced = choose_operating_points(PROBABILITIES, LABELS)
    assert (screening.name, balanced.name) == ("screening", "balanced")
    assert (screening.threshold, screening.sensitivity, screening.specificity) == (0.25, 1.0, 0.8)


def test_balanced_has_the_greatest_sum_of_sensitivity_and_specificity():
    labels = np.array([0, 0, 2, 1, 0, 2, 2, 2])  # at 0.8: 2/3 + 1; at 0.2: 1 + 3/5
    _, balanced = choose_operating_points(PROBABILITIES, labels)
    assert (balanced.threshold, balanced.specificity) == (0.75, 1.0)
    assert balanced.sensitivity == pytest.approx(2 / 3)


def test_logits_that_are_twice_too_sure_get_a_temperature_of_two():
    torch.manual_seed(0)
    honest = torch.randn(4000, 3) * 1.5
    labels = torch.multinomial(honest.softmax(dim=1), 1)[:, 0]
    assert fit_temperature(honest * 2, labels) == pytest.approx(2, rel=0.06)


def test_calibration_error_is_the_gap_between_confidence_and_accuracy():
    sure = np.array([[0.95, 0.05, 0.0]] * 4 + [[0.55, 0.45, 0.0]] * 4)
    labels = np.array([0, 0, 0, 1, 0, 0, 1, 1])  # 95 % sure, 75 % right; 55 % sure, 50 % right
    assert expected_calibration_error(sure, labels) == pytest.approx(0.5 * 0.20 + 0.5 * 0.05)


def test_figures_are_those_of_the_data_and_lie_in_their_intervals():
    point = OperatingPoint(name="screening", threshold=0.3, sensitivity=1, specificity=0.8)
    figures = measure(PROBABILITIES, LABELS, tiny_manifest(operating_points=(point,)))
    assert figures["auc_melanoma"].value == pytest.approx(14 / 15)  # 0.3 ranks below 0.7: one of 15 pairs
    assert figures["sensitivity_screening"].value == 1
    assert figures["specificity_screening"].value == pytest.approx(0.8)
    assert figures["accuracy"].value == pytest.approx(6 / 8)
    assert set(figures) >= {f"auc_{name}" for name in CLASSES}
    assert all(figure.low <= figure.value <= figure.high and figure.n == 8 for figure in figures.values())
