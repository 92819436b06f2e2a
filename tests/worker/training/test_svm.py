"""A support vector machine on deep features learns what can be learnt, only from the images that it is given."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import softmax

from shared.domain import CLASSES
from tests.worker.training.data import TinyLesionNetwork, coloured_images
from worker.network import normalise, save_weights
from worker.training.cross_validation import cross_validate
from worker.training.dataset import prepare
from worker.training.figures import challenge_figures
from worker.training.folds import assign_folds
from worker.training.predictions import read_predictions
from worker.training.recipe import SvmRecipe
from worker.training.svm import read_features

RECIPE = SvmRecipe(method="svm", network="resnet50-v1", input_side=32, penalty=1.0, seed=1)


@pytest.fixture
def network(monkeypatch) -> TinyLesionNetwork:
    monkeypatch.setattr("worker.training.svm.LesionNetwork", TinyLesionNetwork)
    torch.manual_seed(0)
    return TinyLesionNetwork().eval()


@pytest.fixture
def weights(network, tmp_path):
    save_weights(network, tmp_path / "start.safetensors", CLASSES)
    return tmp_path / "start.safetensors"


def ignore(done: int, total: int, loss: float) -> None:
    pass


def test_features_are_the_averages_of_the_networks_last_maps(network, weights):
    images, steps = coloured_images(n=40), []
    features = read_features(RECIPE, weights, [images], lambda done, total, loss: steps.append((done, total)))
    with torch.no_grad():
        maps = network.features(normalise(prepare(images.pixels, RECIPE.preprocessing), RECIPE.preprocessing))
    read = np.stack([features[image_id] for image_id in images.ids])
    np.testing.assert_allclose(read, maps.mean(dim=(2, 3)).numpy(), atol=0.02)  # bfloat16 on some machines
    assert steps == [(32, 40), (40, 40)]


def test_folds_are_those_of_any_recipe_and_predictions_are_log_probabilities(weights, tmp_path):
    images = coloured_images(n=60)
    predictions = cross_validate(RECIPE, weights, tmp_path / "cv", images, 2, ignore)
    assert predictions.folds.tolist() == assign_folds(images, 2, RECIPE.seed).tolist()
    assert challenge_figures(predictions.logits, predictions.labels)["AUC mean"] > 0.95
    np.testing.assert_allclose(np.exp(predictions.logits), softmax(predictions.logits, axis=1), atol=1e-9)
    np.testing.assert_array_equal(read_predictions(tmp_path / "cv" / "predictions.csv").logits, predictions.logits)


def test_random_labels_cannot_be_predicted_for_held_out_images(weights, tmp_path):
    lots = torch.from_numpy(np.random.default_rng(5).integers(0, 3, 90))
    images = replace(coloured_images(n=90), labels=lots)
    predictions = cross_validate(RECIPE, weights, tmp_path / "cv", images, 3, ignore)
    figures = challenge_figures(predictions.logits, predictions.labels)
    assert figures["AUC mean"] < 0.65
    assert figures["accuracy"] < 0.5
