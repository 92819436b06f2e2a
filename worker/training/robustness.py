"""Corruption robustness (Hendrycks and Dietterich 2019, arXiv 1903.12261): each disturbance against none, in pairs."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel

from shared.bundle import Figure
from shared.domain import CLASSES
from shared.errors import InputUnusable
from worker.frame import squash
from worker.model import Model
from worker.training.batches import OnDone, OnProgress, in_batches
from worker.training.dataset import Source, read_images
from worker.training.disturbances import DISTURBANCES, Change, disturb
from worker.training.figures import MELANOMA, Ranking, Readings, find_figures
from worker.training.labels import read_labels

TARGET_DROP = 0.015
"""The largest acceptable drop of melanoma AUC under a disturbance."""


class Robustness(BaseModel):
    """The effect of one disturbance: melanoma AUC under it, the drop from that without it, the sensitivity at the
    default operating point, and the share of decisions there that change.
    """

    disturbance: str
    auc_melanoma: Figure
    auc_drop: Figure
    sensitivity: Figure
    turned: Figure


def refuse_unrankable(ground_truths: Iterable[Path]) -> None:
    """Raise `data_unusable` if these CSV files name no melanomas, or nothing else that bundles know.

    What else is wrong with the files is reported when the images are read.
    """
    problems: list[str] = []
    named = {label.diagnosis for file in ground_truths for label in read_labels(file, problems)} & {*CLASSES}
    if not problems and not {CLASSES[MELANOMA]} < named:
        raise InputUnusable("data_unusable", "Measuring disturbances takes both melanomas and other lesions.")


def measure_robustness(
    model: Model, sources: Sequence[Source], undisturbed: Readings, on_progress: OnProgress
) -> list[Robustness]:
    """Disturb every image that was read, as it is at `TRAINING_SIDE` before the bundle's preprocessing, and read it.

    There must be melanomas among the images, and other lesions (`refuse_unrankable`).
    """
    images = read_images(sources, classes=None)
    pixels = dict(zip(images.ids, images.pixels.numpy(), strict=True))
    found = []
    for name, change in DISTURBANCES.items():
        on_done = partial(on_progress, name)
        probabilities = _read_disturbed(model, [(i, pixels[i]) for i in undisturbed.ids], change, on_done)
        found.append(_compare(name, undisturbed, probabilities[:, MELANOMA], model))
    return found


def _read_disturbed(model: Model, images: list[tuple[str, np.ndarray]], change: Change, on_done: OnDone) -> np.ndarray:
    """Return probabilities (n, classes)."""
    preprocessing = model.manifest.preprocessing

    def prepare(image: tuple[str, np.ndarray]) -> np.ndarray:
        return squash(disturb(Image.fromarray(image[1]), image[0], change), preprocessing)

    with ThreadPoolExecutor() as pool:
        batches = (np.stack(list(pool.map(prepare, batch))) for batch in in_batches(images, on_done))
        return np.concatenate([model.read(pixels).probabilities for pixels in batches])


def _compare(name: str, undisturbed: Readings, disturbed: np.ndarray, model: Model) -> Robustness:
    """`disturbed`: melanoma probabilities (n,) of the same images."""
    point, melanoma = model.manifest.operating_point(), undisturbed.melanoma
    before = Ranking(undisturbed.probabilities[:, MELANOMA], melanoma)
    after = Ranking(disturbed, melanoma)
    referred = disturbed >= point.threshold
    turned = referred != undisturbed.referred[point.name]
    figures = find_figures(
        undisturbed,
        {"auc_melanoma": after.auc, "auc_drop": lambda weights: before.auc(weights) - after.auc(weights)},
        {"sensitivity": (referred, melanoma), "turned": (turned, np.full(len(turned), True))},
    )
    return Robustness(disturbance=name, **figures)
