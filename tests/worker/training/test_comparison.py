"""DeLong's test agrees with an example worked out by hand, with a bootstrap, and with chance."""

from dataclasses import replace

import numpy as np
import pytest

from shared.errors import InputUnusable
from tests.worker.training.readings import made_up_readings
from worker.training.comparison import compare, delong
from worker.training.figures import Ranking, Readings, intervals


def test_an_example_worked_out_by_hand():
    positive = np.array([True, True, False, False])
    first, second = np.array([0.8, 0.4, 0.3, 0.6]), np.array([0.9, 0.2, 0.2, 0.5])
    # Placements of the positive ones: 1 and 1/2; 1 and 1/4 (a tie counts half). AUC 0.75 and 0.625.
    # Of the negative ones: 1 and 1/2; 3/4 and 1/2. Their variances: 1/8, 9/32, covariance 3/16; 1/8, 1/32, 1/16.
    # Variance of the difference: (1/8 + 9/32 - 3/8)/2 + (1/8 + 1/32 - 1/8)/2 = 1/32; z = 0.125 / sqrt(1/32) = 0.7071.
    got = delong(first, second, positive, np.arange(4))
    assert (got.first, got.second, got.difference) == (0.75, 0.625, 0.125)
    assert (got.high - got.low) / 2 == pytest.approx(1.959964 * np.sqrt(1 / 32))
    assert got.p == pytest.approx(0.4795, abs=1e-4)


def test_its_interval_agrees_with_the_bootstraps():
    first, second = made_up_readings(2000, skill=2.0), made_up_readings(2000, skill=1.8, seed=1)
    rankings = [Ranking(readings.probabilities[:, 0], first.melanoma) for readings in (first, second)]
    spans = intervals(first, {"difference": lambda weights: rankings[0].auc(weights) - rankings[1].auc(weights)})
    value, low, high = spans["difference"]
    got = compare(first, second).auc["melanoma"]
    assert got.difference == pytest.approx(value)
    assert got.high - got.low == pytest.approx(high - low, rel=0.1)


def test_two_networks_of_equal_skill_differ_significantly_as_often_as_by_chance():
    positive = np.arange(120) < 40
    generator = np.random.default_rng(0)
    p = [delong(*(generator.normal(size=(2, 120)) + positive), positive, np.arange(120)).p for _ in range(1000)]
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.02)


def test_two_networks_of_equal_skill_differ_as_often_as_by_chance_where_a_patient_has_several_lesions():
    patient = np.repeat(np.arange(60), 3)
    positive = np.arange(180) % 6 < 2  # two of three lesions of every second patient
    generator = np.random.default_rng(0)
    by_patient, by_image = [], []
    for _ in range(1000):
        scores = generator.normal(size=(2, 180)) + positive + 1.5 * generator.normal(size=(2, 60))[:, patient]
        by_patient.append(delong(*scores, positive, patient).p)
        by_image.append(delong(*scores, positive, np.arange(180)).p)
    assert np.mean(np.array(by_patient) < 0.05) == pytest.approx(0.05, abs=0.03)
    assert np.mean(np.array(by_image) < 0.05) > 0.1


def test_a_network_does_not_differ_from_itself():
    readings = made_up_readings()
    comparison = compare(readings, readings)
    assert [(d.difference, d.p) for d in comparison.auc.values()] == [(0, 1)] * 3
    assert (comparison.auc_mean.low, comparison.auc_mean.high) == (0, 0)


def test_images_are_matched_by_their_names():
    first, second = made_up_readings(), made_up_readings(seed=1)
    shuffled = second.take(np.random.default_rng(0).permutation(len(second)))
    assert compare(first, shuffled) == compare(first, second)


def test_it_is_enough_if_one_of_two_networks_knows_the_patients():
    first, second = made_up_readings(), made_up_readings(seed=1)
    patients = np.array([f"patient-{i // 3}" for i in range(300)])
    known, also = (replace(readings, clusters=patients) for readings in (first, second))
    assert compare(known, also) == compare(known, second) == compare(first, also) != compare(first, second)


@pytest.mark.parametrize("other", ["fewer", "twice", "relabelled"])
def test_readings_of_different_images_are_not_compared(other):
    first, second = made_up_readings(), made_up_readings(seed=1)
    second = {
        "fewer": second.take(np.arange(299)),
        "twice": second.take(np.r_[np.arange(300), 0]),
        "relabelled": Readings(second.ids, second.labels[::-1], second.probabilities, {}),
    }[other]
    with pytest.raises(InputUnusable) as refusal:
        compare(first, second)
    assert refusal.value.code == "readings_differ"
