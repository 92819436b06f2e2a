"""Temperature and thresholds come from predictions; figures of them are not optimistic."""

import numpy as np
import pytest

from shared.errors import InputUnusable
from tests.worker.training.readings import made_up_predictions
from worker.training.calibration import calibrate, choose_thresholds, describe_points, fit_temperature, read_nested
from worker.training.conformal import find_all_plausible
from worker.training.figures import measure
from worker.training.predictions import Predictions


def test_logits_that_are_three_times_too_confident_are_divided_by_three():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(20_000, 3))
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (generator.random(20_000)[:, None] > chances.cumsum(axis=1)).sum(axis=1)
    assert fit_temperature(logits * 3, labels) == pytest.approx(3, rel=0.05)


def test_thresholds_of_an_example_worked_out_by_hand():
    probabilities = np.array([0.9, 0.8, 0.6, 0.3, 0.2, 0.7, 0.4, 0.1])
    melanoma = np.array([True, True, True, False, False, False, True, False])
    # Descending: M M - M M | - - - : four of four are found from 0.4; three of four at 0.6 with the same one flagged.
    assert choose_thresholds(probabilities, melanoma) == {
        "screening": pytest.approx((0.4 + 0.3) / 2),
        "balanced": pytest.approx((0.4 + 0.3) / 2),
    }
    probabilities[6] = 0.15
    assert choose_thresholds(probabilities, melanoma) == {
        "screening": pytest.approx((0.15 + 0.1) / 2),
        "balanced": pytest.approx((0.8 + 0.7) / 2),
    }


def test_screening_finds_95_of_100_melanomas_where_it_was_chosen():
    predictions = made_up_predictions(1000)
    melanoma, scores = predictions.labels == 0, predictions.logits[:, 0]
    threshold = choose_thresholds(scores, melanoma)["screening"]
    assert (scores[melanoma] >= threshold).mean() == 0.95


def test_no_image_contributes_to_the_threshold_that_it_is_read_with():
    predictions = made_up_predictions(300)
    before = read_nested(predictions)
    raised = predictions.logits.copy()
    inside = predictions.folds == 2
    raised[inside, 0] += 3
    after = read_nested(Predictions(predictions.ids, predictions.labels, raised, predictions.folds))
    others = calibrate(raised[~inside], predictions.labels[~inside])
    melanoma = after.probabilities[inside, 0]
    np.testing.assert_array_equal(after.referred["screening"][inside], melanoma >= others.thresholds["screening"])
    assert (before.probabilities[inside, 0] < melanoma).all()
    kept = find_all_plausible(after.probabilities, others.plausible_from, after.referred["screening"])
    np.testing.assert_array_equal(after.plausible[inside], kept[inside])


def test_an_image_read_in_several_folds_is_calibrated_only_on_other_images():
    predictions = made_up_predictions(60, folds=3)
    twice = Predictions(
        predictions.ids * 2,
        np.tile(predictions.labels, 2),
        np.tile(predictions.logits, (2, 1)),
        np.concatenate([predictions.folds, (predictions.folds + 1) % 3]),
    )
    readings = read_nested(twice)
    inside = np.isin(twice.ids, np.array(twice.ids)[twice.folds == 0])
    others = calibrate(twice.logits[~inside], twice.labels[~inside])
    at = np.flatnonzero(twice.folds == 0)
    expected = np.exp(twice.logits[at] / others.temperature)
    np.testing.assert_allclose(readings.probabilities[at], expected / expected.sum(axis=1, keepdims=True))


def test_the_sensitivity_reported_is_the_nested_one_with_its_interval():
    predictions = made_up_predictions(400)
    calibration, nested = calibrate(predictions.logits, predictions.labels), read_nested(predictions)
    figures = measure(nested)
    screening, balanced = describe_points(calibration, figures)
    figure = figures["sensitivity_screening"]
    assert (screening.name, balanced.name) == ("screening", "balanced")
    assert screening.threshold == calibration.thresholds["screening"]
    assert (screening.sensitivity, screening.sensitivity_interval) == (figure.value, (figure.low, figure.high))
    assert screening.specificity_interval[0] < screening.specificity < screening.specificity_interval[1]


def test_predictions_of_one_fold_cannot_be_calibrated_without_bias():
    with pytest.raises(InputUnusable, match="cross-validate"):
        read_nested(made_up_predictions(60, folds=1))
