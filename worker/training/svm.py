"""A baseline: a support vector machine on the features of a network trained only on everyday photographs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from shared.bundle import Preprocessing
from worker.model import choose_commands_device
from worker.network import LesionNetwork, load_starting_weights, normalise
from worker.training.batches import in_batches
from worker.training.dataset import Images, LabelledImages, prepare
from worker.training.fine_tune import OnStep
from worker.training.folds import assign_folds
from worker.training.precision import mixed_precision
from worker.training.recipe import SvmRecipe
from worker.training.self_training import Predict

_PLATT_FOLDS = 5


def read_features(
    recipe: SvmRecipe, starting_weights: Path, seen: Sequence[Images], on_step: OnStep
) -> dict[str, np.ndarray]:
    """Return by image id the averages of a frozen network's last feature maps, float32 (K,).

    Raises:
        InputUnusable: `weights_unusable`.
    """
    network = LesionNetwork(architecture=recipe.network)
    load_starting_weights(network, starting_weights, ())
    network = network.to(choose_commands_device(), memory_format=torch.channels_last).eval()
    features, total = {}, sum(map(len, seen))

    def on_done(done: int, _: int) -> None:
        on_step(len(features) + done, total, float("nan"))

    for images in seen:
        batches = in_batches(images.pixels, on_done)
        rows = np.concatenate([_average_maps(network, frames, recipe.preprocessing) for frames in batches])
        features |= dict(zip(images.ids, rows, strict=True))
    return features


@torch.inference_mode()
def _average_maps(network: LesionNetwork, frames: torch.Tensor, preprocessing: Preprocessing) -> np.ndarray:
    """Return float32 (n, K) for squashed frames, uint8 (n, 256, 256, 3)."""
    device = network.classifier.weight.device
    pixels = prepare(frames, preprocessing).to(device)
    with mixed_precision(device):
        _, maps = network(normalise(pixels, preprocessing))
    return maps.float().mean(dim=(2, 3)).cpu().numpy()


class FeatureSvm:
    """Learns from deep features, as Mahbod et al. 2017 (arXiv 1702.08434) did on the same images."""

    def __init__(self, recipe: SvmRecipe, features: dict[str, np.ndarray]):
        """Take the features of all images that will be learnt or read."""
        self.recipe, self.features = recipe, features

    def learn(self, train: LabelledImages, folder: Path) -> Predict:
        """Return a function that gives log-probabilities, float64 (n, classes); nothing is kept in the folder.

        A radial kernel on standardised features, one class against each other one, images weighted by their class's
        inverse frequency. Sigmoids (Platt 1999) turn distances into probabilities: they are fitted on held-out images
        of `train`, near-duplicates kept together.
        """
        machine = make_pipeline(StandardScaler(), SVC(C=self.recipe.penalty, class_weight="balanced"))
        folds = assign_folds(train, _PLATT_FOLDS, self.recipe.seed)
        splits = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(_PLATT_FOLDS)]
        calibrated = CalibratedClassifierCV(machine, method="sigmoid", cv=splits, ensemble=False)
        calibrated.fit(self._of(train), train.labels.numpy())
        return lambda images: np.log(calibrated.predict_proba(self._of(images)).clip(1e-12))

    def _of(self, images: Images) -> np.ndarray:
        return np.stack([self.features[image_id] for image_id in images.ids])
