"""The plausible diagnoses include the true one as often as promised, however poor the network is."""

import numpy as np
import pytest
from scipy.special import softmax

from shared.domain import CLASSES
from tests.worker.training.readings import made_up_predictions
from worker.training.calibration import read_nested
from worker.training.conformal import choose_plausible_from, find_all_plausible


@pytest.mark.parametrize(("n", "threshold"), [(8, 0.0), (9, 0.5), (18, 0.5), (19, 1.5), (20, 1.5), (29, 2.5)])
def test_the_threshold_lies_below_the_lesion_that_one_in_ten_new_ones_ranks_under(n, threshold):
    # Probabilities 1, 2, 3 … in percent: a new lesion is below the k-th of n with a chance of at most k / (n + 1).
    percents = np.zeros((n, 3))
    percents[:, 2] = np.random.default_rng(0).permutation(np.arange(1, n + 1)) / 100
    assert choose_plausible_from(percents, np.full(n, 2)) == pytest.approx((0, 0, threshold / 100))


@pytest.mark.parametrize("skill", [0.0, 1.5, 3.0])
def test_nine_in_ten_new_lesions_of_each_diagnosis_have_theirs_among_the_plausible_ones(skill):
    known, new = made_up_predictions(6000, skill), made_up_predictions(6000, skill, seed=1)
    plausible_from = choose_plausible_from(softmax(known.logits, axis=1), known.labels)
    kept = find_all_plausible(softmax(new.logits, axis=1), plausible_from, np.zeros(6000, bool))
    for label in range(len(CLASSES)):
        covered = kept[new.labels == label, label].mean()
        assert covered > 0.88
        assert covered < 0.92 or skill == 3.0  # for a good enough network it is the most probable one anyway


def test_a_better_network_leaves_fewer_diagnoses_plausible():
    open_ones = [read_nested(made_up_predictions(600, skill)).plausible.sum(axis=1).mean() for skill in (0.0, 1.5, 3.0)]
    assert open_ones[0] > 2.6
    assert open_ones[0] > open_ones[1] > open_ones[2] >= 1
