"""Figures agree with scikit-learn, resample by resample; their intervals have the coverage that they promise."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics

from shared.domain import CLASSES
from tests.worker.training.readings import made_up_readings
from worker.training.figures import (
    Ranking,
    Readings,
    calibration_error,
    challenge_figures,
    exact_interval,
    intervals,
    measure,
)


def four(probabilities_of_melanoma, labels, referred=()) -> Readings:
    """Return readings whose melanoma probability is given; the rest is nevus."""
    melanoma = np.array(probabilities_of_melanoma, float)
    probabilities = np.stack([melanoma, np.zeros(len(melanoma)), 1 - melanoma], axis=1)
    flags = {"screening": np.array(referred, bool)} if len(referred) else {}
    return Readings(np.array([f"image-{i}" for i in range(len(labels))]), np.array(labels), probabilities, flags)


@pytest.fixture
def weights() -> np.ndarray:
    """Three resamples of 300 rows; some rows are not drawn."""
    return np.random.default_rng(5).poisson(1.0, (3, 300)).astype(float)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("auc", metrics.roc_auc_score), ("average_precision", metrics.average_precision_score)],
)
def test_a_ranking_is_scored_as_scikit_learn_does_in_every_resample_and_with_ties(weights, ours, theirs):
    readings = made_up_readings()
    scores = readings.probabilities[:, 0]
    assert len(np.unique(scores)) < len(scores)
    got = getattr(Ranking(scores, readings.melanoma), ours)(weights)
    expected = [theirs(readings.melanoma, scores, sample_weight=row) for row in weights]
    np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_specificity_at_a_sensitivity_is_read_off_the_roc_curve_of_every_resample(weights):
    readings = made_up_readings()
    scores = readings.probabilities[:, 0]
    for row, got in zip(weights, Ranking(scores, readings.melanoma).specificity_at(0.95, weights), strict=True):
        false, true, _ = metrics.roc_curve(readings.melanoma, scores, sample_weight=row, drop_intermediate=False)
        assert got == pytest.approx(1 - false[np.argmax(true >= 0.95)])


def test_coverage_and_the_number_of_plausible_diagnoses_of_an_example_worked_out_by_hand():
    once = four((0.9, 0.6, 0.4, 0.1), (0, 0, 2, 2))
    plausible = np.array([[1, 0, 0], [0, 0, 1], [1, 0, 1], [1, 1, 1]], bool)
    figures = measure(replace(once, plausible=plausible))
    expected = {
        "coverage": (3 / 4, 4),
        "coverage_melanoma": (1 / 2, 2),
        "coverage_nevus": (1, 2),
        "coverage_where_certain": (1 / 2, 2),
        "uncertain": (1 / 2, 4),
        "plausible_diagnoses": (7 / 4, 4),
    }
    assert {name: (figures[name].value, figures[name].n) for name in expected} == expected
    assert "coverage_seborrheic_keratosis" not in figures
    assert not {name for name in measure(once) if "coverage" in name or "plausible" in name}


def test_the_other_figures_agree_with_scikit_learn():
    readings = made_up_readings()
    figures = {name: figure.value for name, figure in measure(readings).items()}
    answer, referred = readings.probabilities.argmax(axis=1), readings.referred["screening"]
    auc = {
        name: metrics.roc_auc_score(readings.labels == i, readings.probabilities[:, i])
        for i, name in enumerate(CLASSES)
    }
    expected = {
        "accuracy": metrics.accuracy_score(readings.labels, answer),
        "balanced_accuracy": metrics.balanced_accuracy_score(readings.labels, answer),
        "binary_accuracy": metrics.accuracy_score(readings.melanoma, answer == 0),
        "binary_accuracy_screening": metrics.accuracy_score(readings.melanoma, referred),
        "sensitivity_screening": metrics.recall_score(readings.melanoma, referred),
        "specificity_screening": metrics.recall_score(~readings.melanoma, ~referred),
        "auc_mean": (auc["melanoma"] + auc["seborrheic_keratosis"]) / 2,
        "brier_score": ((readings.probabilities - np.eye(3)[readings.labels]) ** 2).sum() / len(readings),
    } | {f"auc_{name}": value for name, value in auc.items()}
    assert {name: figures[name] for name in expected} == pytest.approx(expected)


def test_an_example_worked_out_by_hand():
    figures = measure(four([0.9, 0.6, 0.7, 0.1], labels=[0, 0, 2, 2], referred=[True, False, True, False]))
    assert figures["auc_melanoma"].value == 0.75  # three of four pairs are in order
    assert figures["average_precision_melanoma"].value == pytest.approx((1 + 2 / 3) / 2)
    assert figures["specificity_at_95_sensitivity"].value == 0.5
    assert (figures["sensitivity_screening"].value, figures["sensitivity_screening"].n) == (0.5, 2)
    assert "auc_seborrheic_keratosis" not in figures
    assert "auc_mean" not in figures


def test_calibration_error_is_the_gap_of_each_bin_weighted_by_its_size():
    confidence, correct = np.array([0.91, 0.95, 0.99, 0.55]), np.array([True, True, False, True])
    by_hand = abs(2 / 3 - 0.95) * 3 / 4 + abs(1 - 0.55) / 4
    assert calibration_error(confidence, correct, np.ones((1, 4)))[0] == pytest.approx(by_hand)
    twice_the_last = abs(2 / 3 - 0.95) * 3 / 5 + abs(1 - 0.55) * 2 / 5
    assert calibration_error(confidence, correct, np.array([[1, 1, 1, 2.0]]))[0] == pytest.approx(twice_the_last)


def test_an_interval_is_as_wide_as_theory_predicts():
    figure = measure(made_up_readings(2000))["accuracy"]
    by_theory = 1.96 * np.sqrt(figure.value * (1 - figure.value) / 2000)
    assert figure.low < figure.value < figure.high
    assert (figure.high - figure.low) / 2 == pytest.approx(by_theory, rel=0.15)


def test_a_sensitivity_of_one_on_few_melanomas_has_a_wide_interval():
    figure = measure(four([0.9] * 12 + [0.1] * 30, [0] * 12 + [2] * 30, [True] * 12 + [False] * 30))
    sensitivity = figure["sensitivity_screening"]
    assert (sensitivity.value, sensitivity.high, sensitivity.n) == (1, 1, 12)
    assert sensitivity.low == pytest.approx(0.025 ** (1 / 12))  # at this sensitivity, 12 in a row have a chance of 2.5%


def test_a_share_of_few_has_an_exact_interval_and_never_nan():
    figure = measure(four([0.9] * 10 + [0.1] * 10, [0] * 10 + [2] * 10, [True] * 9 + [False] * 11))
    found = figure["sensitivity_screening"]
    assert (found.value, found.low, found.high) == (0.9, *exact_interval(9, 10))
    # A resample may draw none that is certain.
    plausible = np.array([[True, True, False]] * 19 + [[True, False, False]])
    certain = measure(replace(made_up_readings(20), plausible=plausible))["coverage_where_certain"]
    assert (certain.n, certain.low <= certain.value <= certain.high) == (1, True)


def test_the_exact_interval_is_clopper_and_pearsons():
    assert (exact_interval(0, 10)[0], exact_interval(10, 10)[1]) == (0, 1)
    assert exact_interval(0, 10)[1] == pytest.approx(1 - 0.025**0.1)
    assert exact_interval(5, 10) == pytest.approx((0.187086, 0.812914), abs=1e-6)


def test_reading_every_image_twice_narrows_no_interval():
    once = made_up_readings(200)
    twice = Readings(*(np.tile(part, 2) for part in (once.ids, once.labels)), np.tile(once.probabilities, (2, 1)), {})
    before, after = measure(once)["accuracy"], measure(twice)["accuracy"]
    assert after == before


def test_a_second_photograph_of_each_lesion_narrows_no_interval():
    once = made_up_readings(200)
    again = once.take(np.tile(np.arange(200), 2))
    twice = replace(again, ids=np.arange(400).astype(str), clusters=again.ids)
    before, after = measure(once), measure(twice)
    assert {name: figure.n for name, figure in after.items() if figure.n != 2 * before[name].n} == {}
    spans = [np.array([(f.value, f.low, f.high) for f in figures.values()]) for figures in (before, after)]
    np.testing.assert_allclose(*spans, rtol=1e-9)


def test_an_interval_holds_what_it_promises_where_a_patient_has_several_lesions():
    patient, generator = np.repeat(np.arange(80), 5).astype(str), np.random.default_rng(0)
    held = {True: 0, False: 0}
    for _ in range(100):
        hits = generator.random(400) < np.repeat(generator.choice([0.2, 0.8], 80), 5)
        readings = four(np.where(hits, 0.9, 0.1), [0] * 400)
        for known in held:
            figure = measure(replace(readings, clusters=patient if known else None))["accuracy"]
            held[known] += figure.low <= 0.5 <= figure.high
    assert held[True] >= 90 > 85 > held[False]


def test_no_resample_lacks_a_class_and_all_have_the_same_weight():
    readings = made_up_readings(60)
    sizes = {
        f"{label}": lambda weights, label=label: weights[:, readings.labels == label].sum(axis=1) for label in range(3)
    }
    assert intervals(readings, sizes) == {"0": (12, 12, 12), "1": (9, 9, 9), "2": (39, 39, 39)}


def test_the_challenges_figures_lack_the_auc_of_a_class_that_cannot_be_ranked():
    logits = np.log([[0.7, 0.1, 0.2], [0.2, 0.1, 0.7], [0.3, 0.4, 0.3], [0.1, 0.2, 0.7]])
    assert challenge_figures(logits, np.array([0, 0, 1, 2])) == pytest.approx(
        {"AUC melanoma": 3 / 4, "AUC seborrheic keratosis": 1.0, "AUC mean": 7 / 8, "accuracy": 3 / 4}
    )
    without_keratoses = challenge_figures(logits, np.array([0, 0, 2, 2]))
    assert (without_keratoses["AUC seborrheic keratosis"], without_keratoses["AUC mean"]) == (None, None)
    assert challenge_figures(logits, np.array([0, 0, 1, 2]), ("melanoma", "wart", "nevus"))["AUC mean"] is None
