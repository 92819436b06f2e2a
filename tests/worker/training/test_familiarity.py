"""What is learnt of training images' features: directions, variances, and a limit by lesion."""

import numpy as np
import pytest

from shared.errors import InputUnusable
from worker.training import familiarity


def test_the_directions_are_the_same_whether_there_are_more_images_or_more_shares():
    shares = np.random.default_rng(0).normal(size=(90, 60)).astype(np.float32)
    for some in (shares, shares[:50]):
        found = familiarity._fit(some)
        _, lengths, directions = np.linalg.svd(some - some.mean(axis=0), full_matrices=False)
        kept = len(found.variances)
        np.testing.assert_allclose(found.variances, lengths[:kept] ** 2 / (len(some) - 1), rtol=1e-4)
        np.testing.assert_allclose(np.abs((directions[:kept] * found.directions.T).sum(axis=1)), 1, rtol=1e-3)


def test_a_lesions_images_are_not_compared_with_each_other():
    generator = np.random.default_rng(0)
    lesions, alone = generator.normal(size=(200, 1, 30)), generator.normal(size=(200, 3, 30))
    shares, groups = (lesions + alone).reshape(600, 30), tuple(f"lesion-{n // 3}" for n in range(600))
    one_by_one, by_lesion = (
        familiarity.learn_familiarity([shares], names)[0].stages[0].noise for names in (None, groups)
    )
    assert by_lesion > 1.05 * one_by_one  # the limit, which scales it: siblings make an image look familiar


def test_statistics_take_a_lesion_for_each_fold():
    shares = np.random.default_rng(0).normal(size=(5, 60)).astype(np.float32)
    assert familiarity.learn_familiarity([shares])[1] > 0
    for few in (1, 3, 4):
        with pytest.raises(InputUnusable, match=f"takes images of 5 lesions or more; there are {few}"):
            familiarity.learn_familiarity([shares[:few]])
        with pytest.raises(InputUnusable, match=f"there are {few}"):
            familiarity.learn_familiarity([shares], [f"lesion-{number % few}" for number in range(5)])
